#!/bin/bash
# The whole thing on one machine: installs what is missing, builds, starts Redis, Mosquitto (TLS)
# and nemogate on free loopback ports in a temporary folder, plays three NEMO sites for half a
# minute and judges what a subscriber receives. Exit status 0: nothing lost, nothing out of order.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=$PATH:/usr/sbin # mosquitto lies there, and a user's PATH leaves it out
group=nemogate
keep=no
folder=
pids=()   # in the order of their start
names=()

usage() {
    cat <<END
usage: deploy/demo.sh [--keep]
  --keep   leave everything running afterwards, with a few events per second, and say how to look
           at it and how to stop it
END
}

step() {
    printf '\n== %s\n' "$*"
}

fail() {
    printf '\ndemo: %s\n' "$*" >&2
    exit 1
}

# Says what went wrong, shows the end of a log, and says what to do.
fail_with_log() { # log, what went wrong, what to do
    printf '\ndemo: %s. The end of %s:\n' "$2" "$1" >&2
    tail -n 15 "$1" >&2 || true
    fail "$3"
}

stop_all() {
    local i pid waited
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        pid=${pids[i]}
        kill -TERM "$pid" 2>/dev/null || continue
        for ((waited = 0; waited < 100; waited++)); do
            kill -0 "$pid" 2>/dev/null || continue 2
            sleep 0.1
        done
        echo "demo: ${names[i]} (process $pid) does not stop, killing it" >&2
        kill -KILL "$pid" 2>/dev/null || true
    done
}

clean_up() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    stop_all
    if [ -n "$folder" ]; then
        case $status in
        0 | 130 | 143) rm -rf "$folder" ;; # 128 + SIGINT or SIGTERM: nothing is wrong
        *) echo "demo: configuration and logs are kept in $folder" >&2 ;;
        esac
    fi
    exit "$status"
}

# Every server gets a session of its own, so that Ctrl-C reaches only this script, which then stops
# them in the right order.
start() { # name, log, command...
    local name=$1 log=$2
    shift 2
    setsid "$@" >"$log" 2>&1 </dev/null &
    pids+=($!)
    names+=("$name")
}

pid_of() { # name
    local i
    for i in "${!names[@]}"; do
        [ "${names[i]}" != "$1" ] || echo "${pids[i]}"
    done
}

alive() { # name
    kill -0 "$(pid_of "$1")" 2>/dev/null
}

wait_for() { # seconds, name of the process, log, command...
    local tries=$(($1 * 10)) name=$2 log=$3
    shift 3
    until "$@" >/dev/null 2>&1; do
        alive "$name" || fail_with_log "$log" "$name has ended" "see the lines above for the reason"
        ((tries-- > 0)) || fail_with_log "$log" "$name is not ready in time" \
            "see the lines above; is the machine very busy? Then try again"
        sleep 0.1
    done
}

free_ports() { # how many
    /usr/bin/python3 - "$1" <<'END'
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in sockets))
END
}

build() {
    local log=$root/build/demo-build.log
    if ! { mkdir -p "$root/build/release" && : >"$log" && [ -w "$root/build/release" ]; } 2>/dev/null
    then
        fail "cannot write to $root/build: was it made by another user? Then remove it first"
    fi
    cmake --preset release -S "$root" -B "$root/build/release" -DBUILD_TESTS=OFF -DBUILD_BENCH=OFF \
        >"$log" 2>&1 ||
        fail_with_log "$log" "cmake failed" "is a package missing? deploy/install-deps.sh demo"
    cmake --build "$root/build/release" -j "$(nproc)" --target nemogate 2>&1 | tee -a "$log" |
        sed -u -n 's/^\(\[[0-9]*\/[0-9]*\]\).*/   \1/p' | progress ||
        fail_with_log "$log" "the build failed" "see the compiler's message above"
}

progress() { # one line that counts on a terminal, only the last one elsewhere
    local line last="   up to date"
    while IFS= read -r line; do
        last=$line
        [ ! -t 1 ] || printf '\r%s' "$line"
    done
    printf '\r%s\n' "$last"
}

make_certificates() {
    (
        cd "$folder/tls"
        openssl ecparam -name prime256v1 -genkey -noout -out ca.key
        openssl req -x509 -new -key ca.key -sha256 -days 2 -subj "/CN=nemogate demo CA" \
            -addext "keyUsage=critical,keyCertSign,cRLSign" -out ca.crt
        openssl ecparam -name prime256v1 -genkey -noout -out broker.key
        openssl req -new -key broker.key -subj "/CN=localhost" -out broker.csr
        printf '%s\n' "subjectAltName=DNS:localhost,IP:127.0.0.1" "extendedKeyUsage=serverAuth" \
            "basicConstraints=CA:FALSE" >broker.ext
        openssl x509 -req -in broker.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -sha256 \
            -extfile broker.ext -out broker.crt
    ) >"$folder/openssl.log" 2>&1 ||
        fail_with_log "$folder/openssl.log" "openssl could not make the certificates" \
            "is openssl installed and the disk not full?"
}

start_redis() {
    start redis "$folder/redis.log" redis-server --bind 127.0.0.1 --port "$redis_port" \
        --dir "$folder/redis" --save "" --appendonly yes --daemonize no
    wait_for 10 redis "$folder/redis.log" redis-cli -p "$redis_port" ping
}

start_mosquitto() {
    local user
    for user in nemogate dashboard; do
        openssl rand -hex 16 >"$folder/$user.password"
        touch "$folder/passwords"
        mosquitto_passwd -b "$folder/passwords" "$user" "$(cat "$folder/$user.password")"
    done
    cat >"$folder/acl" <<END
user nemogate
topic write nemo/#
topic write nemogate/#
user dashboard
topic read nemo/#
topic read nemogate/#
END
    cat >"$folder/mosquitto.conf" <<END
listener $mqtt_port 127.0.0.1
cafile $folder/tls/ca.crt
certfile $folder/tls/broker.crt
keyfile $folder/tls/broker.key
allow_anonymous false
password_file $folder/passwords
acl_file $folder/acl
persistence true
persistence_location $folder/mosquitto/
# A dashboard that is slower than the gateway must not lose messages in the broker's queue.
max_inflight_messages 0
max_queued_messages 0
log_dest stderr
# Every packet: the demo counts in it what the broker has received.
log_type all
log_timestamp_format %H:%M:%S
END
    # Started as root, mosquitto would become the user mosquitto, who may not read this folder.
    [ "$(id -u)" -ne 0 ] || echo "user root" >>"$folder/mosquitto.conf"
    start mosquitto "$folder/mosquitto.log" mosquitto -c "$folder/mosquitto.conf"
    wait_for 10 mosquitto "$folder/mosquitto.log" bash -c "exec 3<>/dev/tcp/127.0.0.1/$mqtt_port"
}

start_subscriber() {
    : >"$folder/ledger"
    /usr/bin/python3 -B "$root/deploy/demo/watch.py" --redis-port "$redis_port" \
        --mqtt-port "$mqtt_port" --ca-file "$folder/tls/ca.crt" --group "$group" \
        --password-file "$folder/dashboard.password" --ledger "$folder/ledger" \
        --broker-log "$folder/mosquitto.log" --ready-file "$folder/subscribed" &
    watch=$!
    pids+=("$watch")
    names+=("subscriber")
    local tries=150
    until [ -e "$folder/subscribed" ]; do
        kill -0 "$watch" 2>/dev/null || fail_with_log "$folder/mosquitto.log" \
            "the subscriber could not subscribe" "see its message and the broker's lines above"
        ((tries-- > 0)) || fail "the subscriber is not ready after 15 s: is the machine very busy?"
        sleep 0.1
    done
}

start_nemogate() {
    cat >"$folder/nemogate.yaml" <<END
instance: demo
slots: 4
redis:
  url: redis://127.0.0.1:$redis_port/0
  group: $group
  streams: ["nemo:*:events"]
  discovery_interval: 1s
brokers:
  - name: main
    url: mqtts://127.0.0.1:$mqtt_port
    protocol: 5
    username: nemogate
    password_file: $folder/nemogate.password
    tls:
      ca_file: $folder/tls/ca.crt
      server_name: localhost
    status_topic: "nemogate/{client_id}/status"
routes:
  - streams: "nemo:*:events"
    broker: main
    topic_prefix: "nemo/{site}/"
log:
  level: info
  format: logfmt
END
    local binary=$root/build/release/nemogate
    "$binary" check --config "$folder/nemogate.yaml" >"$folder/check.log" 2>&1 ||
        fail_with_log "$folder/check.log" "nemogate refuses the demo's configuration" \
            "this is a fault of the demo: please report it with the lines above"
    start nemogate "$folder/nemogate.log" "$binary" run --config "$folder/nemogate.yaml"
    sleep 0.5
    alive nemogate || fail_with_log "$folder/nemogate.log" "nemogate has ended" \
        "see the lines above for the reason"
}

produce() { # name, more arguments...
    local name=$1
    shift
    start "$name" "$folder/$name.log" /usr/bin/python3 -B "$root/deploy/demo/producer.py" \
        --redis-port "$redis_port" --envelopes "$root/tests/data/legacy_envelopes.jsonl" "$@"
}

judge() {
    local status=0
    wait "$watch" || status=$?
    if [ "$status" -ne 0 ]; then
        alive nemogate || fail_with_log "$folder/nemogate.log" "nemogate has ended on the way" \
            "see the lines above for the reason"
        if [ -s "$folder/producer.log" ]; then
            fail_with_log "$folder/producer.log" "the producer failed" "see the lines above"
        fi
        fail_with_log "$folder/nemogate.log" "not everything arrived as written" \
            "see the summary, and the log above for what nemogate met"
    fi
}

leave_running() {
    sed -i '/^log_type/d' "$folder/mosquitto.conf" # a log of every packet would fill the disk
    kill -HUP "$(pid_of mosquitto)"
    produce trickle --ledger /dev/null --trickle
    local password
    password=$(cat "$folder/dashboard.password")
    cat >"$folder/stop.sh" <<END
#!/bin/bash
# Stops the demo and removes its folder.
for pid in $(pid_of trickle) $(pid_of nemogate) $(pid_of mosquitto) $(pid_of redis); do
    kill -TERM \$pid 2>/dev/null
    for _ in {1..100}; do kill -0 \$pid 2>/dev/null || break; sleep 0.1; done
done
rm -rf '$folder'
END
    chmod +x "$folder/stop.sh"
    cat <<END

== everything keeps running, with a few events per second

  messages as they arrive:
    mosquitto_sub -V 5 -h 127.0.0.1 -p $mqtt_port --cafile $folder/tls/ca.crt \\
        -u dashboard -P $password -t 'nemo/#' -v
  what Redis holds, and what is not acknowledged yet:
    redis-cli -p $redis_port XINFO GROUPS 'nemo:{nanofab}:events'
    redis-cli -p $redis_port XPENDING 'nemo:{nanofab}:events' $group
  an event of your own:
    redis-cli -p $redis_port XADD 'nemo:{nanofab}:events' '*' topic tools/7/event payload hello
  the gateway's log and configuration:
    tail -f $folder/nemogate.log
    cat $folder/nemogate.yaml
  freeze the broker for ten seconds; meanwhile, Redis keeps what comes:
    kill -STOP $(pid_of mosquitto); sleep 10; kill -CONT $(pid_of mosquitto)
  kill the gateway and start it again (nothing gets lost):
    kill -9 $(pid_of nemogate); $root/build/release/nemogate run --config $folder/nemogate.yaml
  stop everything and remove the folder:
    $folder/stop.sh
END
}

case ${1:-} in
--keep) keep=yes ;;
--help | -h) usage && exit 0 ;;
"") ;;
*) usage >&2 && exit 2 ;;
esac

step "packages"
"$root/deploy/install-deps.sh" demo
echo "   all there"
step "release build in build/release"
build

umask 077
folder=$(mktemp -d "${TMPDIR:-/tmp}/nemogate-demo.XXXXXX")
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$folder/tls" "$folder/redis" "$folder/mosquitto"
read -r redis_port mqtt_port < <(free_ports 2)

step "Redis on 127.0.0.1:$redis_port, Mosquitto (TLS, MQTT 5) on 127.0.0.1:$mqtt_port, in $folder"
make_certificates
start_redis
start_mosquitto
start_subscriber
step "nemogate"
start_nemogate
step "three NEMO sites, half a minute; below, some of the messages as a dashboard receives them"
produce producer --ledger "$folder/ledger"
judge
if [ "$keep" = yes ]; then
    leave_running
    trap - EXIT
fi
