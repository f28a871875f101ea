#!/bin/bash
# Runs in the fresh Debian of run.sh, as root: installs the package, uses it, and takes it away.
set -uo pipefail

config=/etc/nemogate/nemogate.yaml
passed=0
failed=0

judge() { # exit status, what
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
        echo "   ok: $2"
    else
        failed=$((failed + 1))
        echo "   FAILED: $2"
        sed 's/^/      /' /tmp/output
        journalctl -q -u nemogate -o cat -n 5 | sed 's/^/      /'
    fi
}

check() { # what, command...
    local what=$1
    shift
    "$@" >/tmp/output 2>&1
    judge $? "$what"
}

check_not() { # what, command that must fail
    local what=$1
    shift
    ! "$@" >/tmp/output 2>&1
    judge $? "$what"
}

check_soon() { # what, command that is to succeed within half a minute
    local what=$1 end=$((SECONDS + 30))
    shift
    until "$@" >/tmp/output 2>&1; do
        ((SECONDS < end)) || { judge 1 "$what" && return; }
        sleep 0.2
    done
    judge 0 "$what"
}

prop() { # property of the unit
    systemctl show --value --property "$1" nemogate
}

status_is() { # pattern of StatusText
    local text
    text=$(prop StatusText)
    echo "$text"
    # shellcheck disable=SC2053
    [[ $text == $1 ]]
}

# An event through Redis, Mosquitto and back: what the whole thing is for.
event_arrives() { # topic
    local word=$RANDOM$RANDOM listener
    mosquitto_sub -V 5 -h 127.0.0.1 -p 1884 -q 1 -t "$1" -C 1 -W 5 >/tmp/event &
    listener=$!
    sleep 0.5
    redis-cli -n 1 XADD 'nemo:{lab}:events' '*' topic tools/7/state payload "$word" >/dev/null
    wait "$listener"
    [ "$(cat /tmp/event)" = "$word" ]
}

override() { # lines of [Service]
    mkdir -p /run/systemd/system/nemogate.service.d
    printf '[Service]\n%s\n' "$1" >/run/systemd/system/nemogate.service.d/test.conf
    systemctl daemon-reload
}

no_override() {
    rm -r /run/systemd/system/nemogate.service.d
    systemctl daemon-reload
}

install_package() { # file
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 install "$1"
}

# A broker of its own port, so that there is something to adapt.
printf 'listener 1884 127.0.0.1\nallow_anonymous true\n' >/etc/mosquitto/conf.d/lab.conf
systemctl restart mosquitto

echo "-- installed"
check "apt installs it" install_package /srv/nemogate.deb
check "the user is there" getent passwd nemogate
check "the configuration is for root and the service" \
    test "$(stat -c '%a %U:%G' $config)" = "640 root:nemogate"
check "the directory too" test "$(stat -c '%a %U:%G' /etc/nemogate)" = "750 root:nemogate"
check "it is the sample" cmp $config /usr/share/nemogate/nemogate.yaml.sample
check_not "it is not enabled" systemctl is-enabled nemogate
check_not "it does not run" systemctl is-active nemogate
check "all of its files are as packaged" dpkg --verify nemogate

echo "-- two lines adapted, and started"
sed -i 's,^#  url: redis://.*,  url: redis://127.0.0.1:6379/1,
        s,^    url: mqtt://.*,    url: mqtt://127.0.0.1:1884,' $config
check "two lines differ" test \
    "$(diff $config /usr/share/nemogate/nemogate.yaml.sample | grep -c '^<')" = 2
check "check --connect is content" runuser -u nemogate -- nemogate check --config $config --connect
check "systemctl enable --now" systemctl enable --now nemogate
check "it is active at once" systemctl is-active nemogate
check_soon "the sentence" status_is "4 slots, 0 streams"
check "an event arrives" event_arrives nemo/lab/tools/7/state
check_soon "the sentence" status_is "4 slots, 1 stream; broker main connected"
check "the page opens" bash -c 'curl -sf http://127.0.0.1:9464/ | grep -qi "<title>nemogate"'
check "the status says that all is well" \
    bash -c 'curl -sf http://127.0.0.1:9464/api/v1/status | grep -q "\"ready\": *true"'
check "nemogate status" nemogate status --config $config
check "nothing went wrong" test -z "$(journalctl -q -u nemogate -p warning -o cat)"
check "the journal has levels" bash -c 'journalctl -q -u nemogate -p info -o cat | grep -q "^ts="'

echo "-- Redis away, broker away"
systemctl stop redis-server
check_soon "the sentence" status_is "no connection to Redis 127.0.0.1:6379: *"
check "a start does not wait for Redis" systemctl restart nemogate
check_soon "the sentence" status_is "waiting for Redis 127.0.0.1:6379: Connection refused"
check "and is active" systemctl is-active nemogate
check "the journal has errors" bash -c 'journalctl -q -u nemogate -p err -o cat | grep -q "no connection to Redis"'
systemctl stop mosquitto
systemctl start redis-server
check_soon "the sentence" status_is "* no connection to broker main"
systemctl start mosquitto
check_soon "both are back" status_is "4 slots, 1 stream; broker main connected"
check "an event arrives" event_arrives nemo/lab/tools/7/state

echo "-- reload"
pid=$(prop MainPID)
sed -i 's,^#    topic_prefix:.*,    topic_prefix: "other/{site}/",' $config
check "reload" systemctl reload nemogate
check_soon "it is active" bash -c 'test "$(systemctl is-active nemogate)" = active'
check "the new topic" event_arrives other/lab/tools/7/state
check "in the same process" test "$(prop MainPID)" = "$pid"
cp -p $config /srv/good.yaml
echo 'nonsense: 1' >>$config
check_not "a faulty file fails the reload" systemctl reload nemogate
check "and says where" bash -c "journalctl -q -u nemogate -p err -o cat | grep -q 'nemogate.yaml:[0-9]*:[0-9]*: '"
check "it goes on" event_arrives other/lab/tools/7/state
check "in the same process" test "$(prop MainPID)" = "$pid"
cp -p /srv/good.yaml $config

echo "-- watchdog"
override 'WatchdogSec=3s'
systemctl restart nemogate
check_soon "active" event_arrives other/lab/tools/7/state
sleep 5
check "it is left alone" test "$(prop NRestarts)" = 0
kill -STOP "$(prop MainPID)"
check_soon "a process that hangs is started again" bash -c \
    'test "$(systemctl show --value -p NRestarts nemogate)" = 1'
check_soon "and carries events" event_arrives other/lab/tools/7/state
check "the journal says why" bash -c 'journalctl -q -u nemogate -o cat | grep -qi "watchdog timeout"'

echo "-- a reload that takes longer than the watchdog"
systemctl reset-failed nemogate
cat >/etc/nemogate/values.sh <<END
sleep 6
printf '%s=%s\n' broker_host 127.0.0.1 broker_port 1884 keepalive 30 username '' password '' \
    use_hmac 0 hmac_secret_key ''
END
cat >$config <<END
redis: {url: "redis://127.0.0.1:6379/1"}
brokers: [{name: main, url: "mqtt://127.0.0.1:1884"}]
routes: [{streams: "nemo:*:events", topic_prefix: "second/{site}/"}]
legacy_lists: [{list: events, db: 1, stream: "nemo:{lab}:events"}]
legacy_config_command: sh /etc/nemogate/values.sh
END
check "restart with a slow legacy_config_command" systemctl restart nemogate
pid=$(prop MainPID)
sed -i 's,second/{site}/,third/{site}/,' $config
check "reload" systemctl reload nemogate
check_soon "it is active" bash -c 'test "$(systemctl is-active nemogate)" = active'
check_soon "the new topic" event_arrives third/lab/tools/7/state
check "in the same process" test "$(prop MainPID)" = "$pid"
cp -p /srv/good.yaml $config
no_override

echo "-- a stop that takes longer than the unit allows"
override 'TimeoutStopSec=3s'
sed -i 's,^#  drain_timeout:.*,  drain_timeout: 7s,' $config
systemctl restart nemogate
check_soon "active" event_arrives other/lab/tools/7/state
kill -STOP "$(systemctl show --value -p MainPID mosquitto)"
redis-cli -n 1 XADD 'nemo:{lab}:events' '*' topic tools/7/state payload stuck >/dev/null
sleep 1
systemctl stop nemogate
check "it was let finish" test "$(prop Result)" = success
check "and said what stays" bash -c 'journalctl -q -u nemogate -o cat | grep msg=.stopped | tail -n 1 | grep -q stays_pending=1'
kill -CONT "$(systemctl show --value -p MainPID mosquitto)"
cp -p /srv/good.yaml $config
no_override
systemctl start nemogate

echo "-- upgrade"
pid=$(prop MainPID)
check "apt upgrades it" install_package /srv/later.deb
check "without a question about the configuration" cmp $config /srv/good.yaml
check "still for root and the service" test "$(stat -c '%a %U:%G' $config)" = "640 root:nemogate"
check_not "another process runs" test "$(prop MainPID)" = "$pid"
check "active" systemctl is-active nemogate
check "enabled" systemctl is-enabled nemogate
check_soon "an event arrives" event_arrives other/lab/tools/7/state

echo "-- removed, and installed again"
check "remove" apt-get -q -y remove nemogate
check_not "it does not run" systemctl is-active nemogate
check_not "no process is left" grep -x nemogate /proc/[0-9]*/comm
check "the configuration stays" cmp $config /srv/good.yaml
check "install" install_package /srv/nemogate.deb
check "the configuration is the old one" cmp $config /srv/good.yaml
check "it starts" systemctl start nemogate
check_soon "an event arrives" event_arrives other/lab/tools/7/state

echo "-- purged"
echo secret >/etc/nemogate/password
check "purge" apt-get -q -y purge nemogate
check_not "no process is left" grep -x nemogate /proc/[0-9]*/comm
check_not "the configuration is gone" test -e $config
check "somebody's own file is not" test -e /etc/nemogate/password
check_not "no link of the unit is left" test -L /etc/systemd/system/multi-user.target.wants/nemogate.service
check "purge again, without such files" bash -c \
    'rm /etc/nemogate/* && apt-get -q -y install /srv/nemogate.deb && apt-get -q -y purge nemogate'
check_not "the directory is gone" test -e /etc/nemogate
check_not "dpkg knows nothing of it" dpkg-query -W nemogate

echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
