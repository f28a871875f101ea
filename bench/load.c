/*
 * The load generator: schema v1 entries by pipelined XADD, as fast as Redis takes them, at a steady
 * rate or in bursts, every payload with a stamp by which `verify` judges what arrives. With
 * --direct the same events go straight to a broker. It makes input for the benchmark; it is not a
 * producer to copy from.
 */
#include "bench/common.h"
#include "bench/histogram.h"
#include "bench/pace.h"
#include "bench/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#define MS_NS UINT64_C(1000000)
#define PHASES_MAX 3
#define SINGLE_RATE_MAX 20000 /* up to here each event leaves alone, at its own time */
#define TICK_US 1000          /* above it they leave in groups */
#define TABLE_MAX (UINT64_C(1) << 28)
#define PAYLOAD_MAX (1u << 20)

struct options {
    struct target_options target;
    const char *burst;
    const char *then_burst;
    const char *mix;
    uint64_t messages;
    uint64_t seconds;
    uint64_t rate;
    uint64_t then_seconds;
    uint64_t payload;
    double zipf;
    uint64_t retain_percent;
    uint64_t tick_us;
    uint64_t seed;
    uint64_t run;
    uint64_t progress_ms;
};

/* What a phase was and what became of it. */
struct phase_result {
    struct phase phase;
    uint64_t sent;
    uint64_t ns;
    uint64_t late_max_ns;
};

struct load {
    struct options options;
    struct target *target;
    struct key_law *keys;
    struct draw draw;
    uint32_t *next; /* sequence numbers by stream and key */
    struct phase_result phases[PHASES_MAX];
    size_t phase_count;
    uint64_t sent;
    uint64_t payload_bytes;
    uint64_t by_size[4];
    uint64_t non_ascii;
    uint64_t retained;
    struct histogram late;
    uint64_t started_ns;
    uint64_t reported_ns;
    uint64_t reported;
};

static void draw_event(struct load *load, struct event *event)
{
    const struct options *options = &load->options;
    const struct entry_options *entry = &options->target.entry;
    uint64_t stream = load->sent % entry->streams;
    size_t key = key_law_draw(load->keys, &load->draw);
    event->number = load->sent++;
    event->size = size_mix_draw(&entry->mix, &load->draw);
    event->non_ascii = draw_percent(&load->draw, entry->mix.non_ascii_percent);
    event->retain = draw_percent(&load->draw, options->retain_percent);
    event->stamp.stream = (uint32_t)(entry->first_stream + stream);
    event->stamp.key = (uint32_t)key;
    event->stamp.sequence = load->next[stream * entry->keys + key]++;
    load->payload_bytes += entry->mix.size[event->size];
    load->by_size[event->size]++;
    load->non_ascii += event->non_ascii;
    load->retained += event->retain;
}

static void send_events(struct load *load, uint64_t count, uint64_t now)
{
    struct event event = {.stamp = {.ns = now, .run = (uint32_t)load->options.run},
                          .wall_ms = wall_ms()};
    for (uint64_t i = 0; i < count; i++) {
        draw_event(load, &event);
        target_put(load->target, &event);
    }
    target_flush(load->target);
}

/* An event that is due at `due` leaves at `now`. */
static void note_late(struct load *load, struct phase_result *result, uint64_t due, uint64_t now)
{
    uint64_t late = now > due ? now - due : 0;
    histogram_add(&load->late, late);
    if (late > result->late_max_ns)
        result->late_max_ns = late;
}

static void show_progress(struct load *load, uint64_t now)
{
    uint64_t every = load->options.progress_ms * MS_NS;
    if (every == 0 || now - load->reported_ns < every)
        return;
    double seconds = (double)(now - load->reported_ns) / 1e9;
    fprintf(stderr, "load: %.1f s, %llu events, %.0f/s, at most %.1f ms late\n",
            (double)(now - load->started_ns) / 1e9, (unsigned long long)load->sent,
            (double)(load->sent - load->reported) / seconds, (double)load->late.max / 1e6);
    load->reported_ns = now;
    load->reported = load->sent;
}

static void run_phase(struct load *load, struct phase_result *result)
{
    const struct phase *phase = &result->phase;
    uint64_t tick = load->options.tick_us;
    if (tick == 0 && phase->rate > SINGLE_RATE_MAX)
        tick = TICK_US;
    uint64_t start = clock_ns();
    uint64_t now = start;
    while (!phase_over(phase, result->sent, now - start)) {
        uint64_t count = phase_due(phase, now - start) - result->sent;
        if (count > load->options.target.pipeline)
            count = load->options.target.pipeline;
        for (uint64_t i = 0; i < count && phase->rate > 0; i++)
            note_late(load, result, start + phase_when(phase, result->sent + i), now);
        if (count > 0)
            send_events(load, count, now);
        result->sent += count;
        uint64_t wake = start + phase_when(phase, result->sent);
        if (phase->rate > 0 && wake < now + tick * 1000 && count < load->options.target.pipeline)
            wake = now + tick * 1000;
        now = clock_ns();
        if (phase->rate > 0 && wake > now && result->sent < phase->count) {
            sleep_until(wake);
            now = clock_ns();
        }
        show_progress(load, now);
    }
    result->ns = clock_ns() - start;
}

static void print_phases(const struct load *load)
{
    for (size_t i = 0; i < load->phase_count; i++) {
        const struct phase_result *result = &load->phases[i];
        double seconds = (double)result->ns / 1e9;
        printf("%s{\"messages\": %llu, \"seconds\": %.6f, \"rate\": %.0f, \"asked_rate\": %.1f, "
               "\"late_max_us\": %.1f}",
               i > 0 ? ", " : "", (unsigned long long)result->sent, seconds,
               seconds > 0 ? (double)result->sent / seconds : 0, result->phase.rate,
               (double)result->late_max_ns / 1e3);
    }
}

static void print_result(const struct load *load, double seconds, double cpu)
{
    const struct size_mix *mix = &load->options.target.entry.mix;
    double messages = load->sent > 0 ? (double)load->sent : 1;
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"rate\": %.0f, \"bytes\": %llu, "
           "\"payload_bytes\": %llu, \"cpu_us\": %.3f, \"late_p50_us\": %.1f, "
           "\"late_p99_us\": %.1f, \"late_max_us\": %.1f, \"phases\": [",
           (unsigned long long)load->sent, seconds, (double)load->sent / seconds,
           (unsigned long long)target_bytes(load->target), (unsigned long long)load->payload_bytes,
           cpu / messages, (double)histogram_percentile(&load->late, 0.5) / 1e3,
           (double)histogram_percentile(&load->late, 0.99) / 1e3, (double)load->late.max / 1e3);
    print_phases(load);
    printf("], \"sizes\": {");
    for (size_t i = 0; i < mix->count; i++)
        printf("%s\"%zu\": %llu", i > 0 ? ", " : "", mix->size[i],
               (unsigned long long)load->by_size[i]);
    printf("}, \"non_ascii\": %llu, \"retained\": %llu}\n", (unsigned long long)load->non_ascii,
           (unsigned long long)load->retained);
}

static void plan_burst(struct load *load, const char *option, const char *text)
{
    struct phase *phase = &load->phases[load->phase_count++].phase;
    if (!phase_read_burst(phase, text))
        die_of_option("--%s %s: must be COUNT/SECONDS, such as 300000/3", option, text);
}

static void plan(struct load *load, bool messages_given)
{
    struct options *options = &load->options;
    if (options->burst != NULL) {
        plan_burst(load, "burst", options->burst);
    } else {
        struct phase *phase = &load->phases[load->phase_count++].phase;
        phase->rate = (double)options->rate;
        phase->seconds = (double)options->seconds;
        phase->count = options->seconds > 0 && !messages_given ? UINT64_MAX : options->messages;
    }
    if (options->then_burst != NULL)
        plan_burst(load, "then-burst", options->then_burst);
    if (options->then_seconds > 0) {
        struct phase *phase = &load->phases[load->phase_count++].phase;
        phase->rate = (double)options->rate;
        phase->seconds = (double)options->then_seconds;
        phase->count = UINT64_MAX;
    }
}

static void check_options(const struct options *options)
{
    const struct entry_options *entry = &options->target.entry;
    if (options->target.pipeline == 0 || options->messages == 0)
        die_of_option("--messages and --pipeline must be at least 1");
    if (entry->streams == 0 || entry->first_stream == 0 || entry->keys == 0 ||
        entry->streams > STAMP_STREAMS_MAX || entry->first_stream > STAMP_STREAMS_MAX ||
        entry->first_stream + entry->streams - 1 > STAMP_STREAMS_MAX ||
        entry->keys > STAMP_KEYS_MAX || entry->streams * entry->keys > TABLE_MAX)
        die_of_option("--streams, --first-stream and --keys must be 1 to %u, "
                      "streams x keys at most %llu",
                      STAMP_STREAMS_MAX, (unsigned long long)TABLE_MAX);
    stream_names_check(entry->stream_names);
    if (options->payload < SAMPLE_PAYLOAD_MIN || options->payload > PAYLOAD_MAX)
        die_of_option("--payload must be %d to %u", SAMPLE_PAYLOAD_MIN, PAYLOAD_MAX);
    if (entry->fields != 9 && entry->fields != 5)
        die_of_option("--entry-fields must be 9 or 5");
    if (options->retain_percent > 100 ||
        (options->retain_percent > 0 && entry->fields == 5 && !options->target.direct))
        die_of_option("--retain-percent must be 0 to 100, and goes with --entry-fields 9");
    if (entry->qos > 1 || (entry->qos == 0 && (entry->fields == 5 || options->target.direct)))
        die_of_option("--qos must be 0 or 1; 0 goes with --entry-fields 9, not with --direct");
    if (options->run > STAMP_RUNS_MAX)
        die_of_option("--run must be 0 to %u", STAMP_RUNS_MAX);
    if (options->target.direct && options->target.port == 0)
        die_of_option("--direct needs --port, the broker's");
}

static void read_options(struct options *options, int argc, char **argv)
{
    struct target_options *target = &options->target;
    struct entry_options *entry = &target->entry;
    const struct option_row rows[] = {
        {"host", OPTION_TEXT, &target->host, "address of Redis (with --direct: of the broker)"},
        {"port", OPTION_NUMBER, &target->port, "its port, 0: 6379"},
        {"streams", OPTION_NUMBER, &entry->streams, "how many, written in turn"},
        {"first-stream", OPTION_NUMBER, &entry->first_stream, "number of the first"},
        {"stream-names", OPTION_TEXT, &entry->stream_names, "their names, % is the number"},
        {"messages", OPTION_NUMBER, &options->messages, "ends the first phase, 0: 500000"},
        {"seconds", OPTION_NUMBER, &options->seconds, "ends the first phase too, 0: does not"},
        {"rate", OPTION_NUMBER, &options->rate, "events per second, 0: as fast as possible"},
        {"burst", OPTION_TEXT, &options->burst, "COUNT/SECONDS: the first phase is this burst"},
        {"then-burst", OPTION_TEXT, &options->then_burst, "COUNT/SECONDS: the second phase"},
        {"then-seconds", OPTION_NUMBER, &options->then_seconds, "a last phase of --rate again"},
        {"mix", OPTION_TEXT, &options->mix,
         "payload sizes: fixed, or nemo (70 % 200 B, 20 % 300 B, 9 % 1 KiB, 1 % 16 KiB; 30 % with "
         "names beyond ASCII)"},
        {"payload", OPTION_NUMBER, &options->payload, "bytes of payload of --mix fixed"},
        {"keys", OPTION_NUMBER, &entry->keys, "ordering keys per stream, each with its topic"},
        {"zipf", OPTION_DECIMAL, &options->zipf, "exponent of Zipf's law over keys, 0: uniform"},
        {"retain-percent", OPTION_NUMBER, &options->retain_percent, "retained events"},
        {"entry-fields", OPTION_NUMBER, &entry->fields,
         "9: as the NEMO plugin writes; 5: topic, payload, key, id, ts"},
        {"qos", OPTION_NUMBER, &entry->qos, "of the entries: 0 or 1"},
        {"pipeline", OPTION_NUMBER, &target->pipeline, "commands per write at most"},
        {"tick-us", OPTION_NUMBER, &options->tick_us,
         "sends what is due once in this time, 0: each event alone up to 20000/s, else 1000"},
        {"seed", OPTION_NUMBER, &options->seed, "of all that is drawn"},
        {"run", OPTION_NUMBER, &options->run, "stands in every stamp, for verify --run"},
        {"progress-ms", OPTION_NUMBER, &options->progress_ms, "a line on stderr, 0: none"},
        {"direct", OPTION_FLAG, &target->direct, "publishes to a broker, no Redis"},
        {"ca", OPTION_TEXT, &target->ca_file, "of --direct: TLS, verified against this CA"},
        {"v3", OPTION_FLAG, &target->v3, "of --direct: MQTT 3.1.1 instead of 5"},
    };
    options_read(argc, argv, "fills streams with stamped events; JSON on stdout", rows,
                 sizeof rows / sizeof rows[0]);
}

int main(int argc, char **argv)
{
    static const char *const mixes[] = {"fixed", "nemo", NULL};
    struct load *load = must_alloc(1, sizeof *load);
    struct options *options = &load->options;
    *options = (struct options){
        .target = {.host = "127.0.0.1",
                   .pipeline = 500,
                   .entry = {.stream_names = STREAM_NAMES,
                             .first_stream = 1,
                             .streams = 1,
                             .keys = 500,
                             .fields = 9,
                             .qos = 1}},
        .mix = "fixed",
        .payload = 220,
        .seed = 1,
        .progress_ms = 1000,
    };
    read_options(options, argc, argv);
    bool messages_given = options->messages > 0;
    if (!messages_given)
        options->messages = 500000;
    check_options(options);
    struct entry_options *entry = &options->target.entry;
    entry->mix = option_choice("mix", options->mix, mixes) == 0 ? size_mix_fixed(options->payload)
                                                                : size_mix_nemo();
    if (options->target.port == 0)
        options->target.port = 6379;
    plan(load, messages_given);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    load->draw = draw_seeded(options->seed);
    load->keys = key_law_new(entry->keys, options->zipf);
    load->next = must_alloc(entry->streams * entry->keys, sizeof *load->next);
    load->target = target_new(&options->target);

    double cpu = cpu_us();
    load->started_ns = load->reported_ns = clock_ns();
    for (size_t i = 0; i < load->phase_count; i++)
        run_phase(load, &load->phases[i]);
    target_finish(load->target);
    print_result(load, (double)(clock_ns() - load->started_ns) / 1e9, cpu_us() - cpu);
    target_free(load->target);
    key_law_free(load->keys);
    free(load->next);
    free(load);
    return 0;
}
