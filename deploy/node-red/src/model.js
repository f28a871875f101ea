// The newest state of each topic, and what the page shows of it. A burst of messages (a restart
// brings all retained ones at once) becomes one update of the page.
const COLLECT = 200;         // ms from a change until the page has it
const SWEEP_AFTER = 10000;   // ms from a connection until all retained messages must have come
const wall = context.get("wall");

if (msg.status) {
    connection(msg.status);
} else {
    arrived(msg.topic, msg.payload);
}
return null;

function arrived(topic, payload) {
    const prefix = env.get("PREFIX") + "/";
    if (!topic.startsWith(prefix)) {  // the status of a connection of nemogate
        return keep("gateways", topic, payload === "" ? null : { state: payload });
    }
    const [kind, name] = topic.slice(prefix.length).split("/");
    if (!(kind in wall)) {
        return;
    }
    if (payload === "") {  // the object was deleted, or is no longer published
        return keep(kind, name, null);
    }
    let body = null;
    try {
        body = JSON.parse(payload);
    } catch (error) {
        return node.warn(topic + ": the payload is no JSON");
    }
    if (body === null || body.v !== 1) {
        return node.warn(topic + ": a payload of another version; this wall knows 1");
    }
    keep(kind, name, body);
}

function keep(kind, name, body) {
    if (body === null) {
        delete wall[kind][name];
    } else {
        wall[kind][name] = { body, round: wall.round };
    }
    show(kind);
}

// What was deleted while the connection was away is not among the retained messages that the next
// one brings. So each connection is a round, and what it has not brought is dropped.
function connection(status) {
    const connected = status.fill === "green";
    if (connected === wall.connected) {
        return;
    }
    if (wall.connected === null) {  // just started: the page shall say so, and show no empty groups
        Object.keys(wall.changed).forEach(show);
    }
    wall.connected = connected;
    clearTimeout(wall.sweep);
    if (connected) {
        wall.sweep = setTimeout(sweep, SWEEP_AFTER);
    } else {
        wall.round += 1;
        wall.lost = Date.now();
    }
    show("gateways");
}

function sweep() {
    for (const kind of ["tools", "areas", "sensors", "facility", "gateways"]) {
        for (const [name, kept] of Object.entries(wall[kind])) {
            if (kept.round !== wall.round) {
                keep(kind, name, null);
            }
        }
    }
}

function show(kind) {
    wall.changed[kind] = true;
    if (wall.timer === null) {
        wall.timer = setTimeout(send, COLLECT);
    }
}

function send() {
    const { changed } = wall;
    wall.changed = {};
    wall.timer = null;
    const head = changed.tools || changed.gateways || changed.facility;
    const gauge = changed.sensors ? sensorGauge() : null;
    node.send([
        head ? { payload: notices() } : null,
        changed.tools ? { payload: byName("tools", "tool_name") } : null,
        changed.areas ? { payload: byName("areas", "area_name") } : null,
        changed.sensors ? { payload: byName("sensors", "sensor_name") } : null,
        gauge,
        changed.sensors || changed.areas ? { payload: { groups: emptyGroups() } } : null,
    ]);
}

function bodies(kind) {
    return Object.values(wall[kind]).map((kept) => kept.body);
}

function byName(kind, field) {
    return bodies(kind).sort((a, b) =>
        String(a[field]).localeCompare(String(b[field]), undefined, { numeric: true }));
}

function notices() {
    const count = { all: 0 };
    for (const tool of bodies("tools")) {
        count.all += 1;
        count[tool.state] = (count[tool.state] || 0) + 1;
    }
    const gateways = bodies("gateways");
    const items = (name) => (wall.facility[name] ? wall.facility[name].body.items || [] : []);
    return {
        title: env.get("NEMO_TITLE") || env.get("NEMO_SITE"),
        connected: wall.connected,
        lost: wall.lost,
        gatewayDown: gateways.length > 0 && gateways.every((one) => one.state === "offline"),
        count,
        alerts: items("alerts"),
        safety: items("safety"),
        closures: items("closures"),
    };
}

// The sensor of NEMO_SENSOR, or else the one with the lowest id.
function sensorGauge() {
    const wanted = env.get("NEMO_SENSOR");
    const numbers = bodies("sensors").filter((one) => typeof one.value === "number")
        .sort((a, b) => a.sensor_id - b.sensor_id);
    const one = wanted ? numbers.find((each) => String(each.sensor_id) === wanted) : numbers[0];
    wall.gauge = one ? one.sensor_id : null;
    if (!one) {
        return null;
    }
    const least = Number(env.get("NEMO_SENSOR_MIN") || 0);
    const most = Number(env.get("NEMO_SENSOR_MAX") || 100);
    return {
        payload: one.value,
        ui_update: {
            label: one.sensor_name, units: one.suffix || one.label || "", prefix: one.prefix || "",
            min: least, max: most,
        },
    };
}

function emptyGroups() {
    const shown = { Areas: bodies("areas").length > 0, Gauge: wall.gauge !== null,
                    Sensors: bodies("sensors").length > 0 };
    const named = (is) => Object.keys(shown).filter((name) => shown[name] === is)
        .map((name) => "Wall:" + name);
    return { show: named(true), hide: named(false) };
}
