// Kept in memory only: after a restart the broker's retained messages fill it again.
context.set("wall", {
    tools: {}, areas: {}, sensors: {}, facility: {}, gateways: {},
    round: 0, connected: false, lost: Date.now(), changed: {}, timer: null, sweep: null, gauge: null,
});
