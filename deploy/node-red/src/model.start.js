// Kept in memory only: after a restart the broker's retained messages fill it again.
context.set("wall", {
    tools: {}, areas: {}, sensors: {}, facility: {}, gateways: {},
    round: 0, connected: null, lost: Date.now(),
    changed: { tools: true, areas: true, sensors: true },
    timer: null, sweep: null, gauge: null,
});
