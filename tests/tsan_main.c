/*
 * Runs Criterion's tests under ThreadSanitizer. Criterion's own runner maps a shared arena at an
 * address that ThreadSanitizer does not allow and ends before the first test, so in that build this
 * file stands in for it: main() and the few functions that the assertions call. Each test runs in a
 * forked process; the closing line has Criterion's form. Of the report hooks it knows PRE_ALL. Not
 * for parameterised tests and theories, which fail here with a message.
 */
#include <stdint.h>

#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <criterion/internal/assert/types.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_FAILED = 97, EXIT_SKIPPED = 98, TEST_SECONDS = 100 };

/* The linker's bounds of the sections in which Test(), TestSuite() and ReportHook() lay their
 * pointers. */
extern struct criterion_test *__start_cr_tst[] __attribute__((weak));
extern struct criterion_test *__stop_cr_tst[] __attribute__((weak));
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak));
extern struct criterion_suite *__stop_cr_sts[] __attribute__((weak));
extern f_report_hook __start_cr_pra[] __attribute__((weak));
extern f_report_hook __stop_cr_pra[] __attribute__((weak));

/* Of the forked process only: the test it runs, and whether an expectation has failed. */
static struct criterion_test *running;
static bool expectation_failed;

static const struct criterion_test_extra_data *suite_data(void)
{
    for (struct criterion_suite **suite = __start_cr_sts; suite < __stop_cr_sts; suite++) {
        if (*suite != NULL && strcmp((*suite)->name, running->category) == 0)
            return (*suite)->data;
    }
    return NULL;
}

void criterion_internal_test_setup(void)
{
    const struct criterion_test_extra_data *suite = suite_data();
    if (suite != NULL && suite->init != NULL)
        suite->init();
    if (running->data->init != NULL)
        running->data->init();
}

void criterion_internal_test_main(void (*test)(void))
{
    test();
}

void criterion_internal_test_teardown(void)
{
    const struct criterion_test_extra_data *suite = suite_data();
    if (running->data->fini != NULL)
        running->data->fini();
    if (suite != NULL && suite->fini != NULL)
        suite->fini();
}

void criterion_send_assert(struct criterion_assert_stats *stats)
{
    if (!stats->passed)
        fprintf(stderr, "[----] %s:%u: Assertion failed: %s\n", stats->file, stats->line,
                stats->message);
}

void cri_assert_node_send(const char *file, size_t line, struct cri_assert_node *tree)
{
    fprintf(stderr, "[----] %s:%zu: Assertion failed: %s\n", file, line,
            tree->message != NULL ? tree->message : "");
}

void criterion_abort_test(void)
{
    fflush(NULL);
    _exit(EXIT_FAILED);
}

void criterion_continue_test(void)
{
    expectation_failed = true;
}

void criterion_skip_test(const char *format, ...)
{
    (void)format;
    fflush(NULL);
    _exit(EXIT_SKIPPED);
}

void criterion_test_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    criterion_abort_test();
}

static void run(struct criterion_test *test)
{
    running = test;
    alarm(TEST_SECONDS);
    if (test->data->kind_ != CR_TEST_NORMAL)
        criterion_test_die("[----] only plain tests run under ThreadSanitizer\n");
    test->test();
    /* exit(), not _exit(): ThreadSanitizer turns its findings into an exit status there. */
    exit(expectation_failed ? EXIT_FAILED : EXIT_SUCCESS);
}

int main(void)
{
    unsigned tested = 0, passing = 0, crashing = 0;
    struct criterion_test_set none = {0};
    for (f_report_hook *hook = __start_cr_pra; hook < __stop_cr_pra; hook++) {
        if (*hook != NULL)
            (*hook)(&none);
    }
    for (struct criterion_test **test = __start_cr_tst; test < __stop_cr_tst; test++) {
        if (*test == NULL || (*test)->data->disabled)
            continue;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0)
            run(*test);
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child) {
            perror("tsan_main");
            return EXIT_FAILURE;
        }
        if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIPPED)
            continue;
        tested++;
        const struct criterion_test_extra_data *data = (*test)->data;
        bool passed = WIFSIGNALED(status)
                          ? WTERMSIG(status) == data->signal
                          : data->signal == 0 && WEXITSTATUS(status) == data->exit_code;
        passing += passed ? 1 : 0;
        crashing += WIFSIGNALED(status) && !passed ? 1 : 0;
        if (!passed)
            fprintf(stderr, "[FAIL] %s::%s: %s %d\n", (*test)->category, (*test)->name,
                    WIFSIGNALED(status) ? "signal" : "exit status",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    fprintf(stderr, "[====] Synthesis: Tested: %u | Passing: %u | Failing: %u | Crashing: %u\n",
            tested, passing, tested - passing, crashing);
    return passing == tested ? EXIT_SUCCESS : EXIT_FAILURE;
}
