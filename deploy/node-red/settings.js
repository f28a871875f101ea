// Settings of Node-RED for the wall. All that differs between labs comes from environment variables
// (dashboard.env.example). The editor is off: who reaches the page can look, and nothing else.

const fs = require("fs");

const env = process.env;
const editor = env.DASHBOARD_EDITOR === "yes";
const faults = ["MQTT_HOST", "MQTT_CA", "MQTT_USER", "MQTT_PASSWORD", "NEMO_SITE"]
    .filter((name) => !env[name]).map((name) => name + " is not set");

if (env.MQTT_CA) {
    try {
        fs.accessSync(env.MQTT_CA, fs.constants.R_OK);
    } catch (error) {
        faults.push("MQTT_CA: " + error.message);
    }
}
if (env.NEMO_SITE && !/^[a-z0-9][a-z0-9-]{0,31}$/.test(env.NEMO_SITE)) {
    faults.push("NEMO_SITE: a-z, 0-9 and -, at most 32");
}
if (faults.length > 0) {
    faults.forEach((fault) => console.error("dashboard: " + fault));
    process.exit(2);
}
env.MQTT_PORT = env.MQTT_PORT || "8883";

module.exports = {
    userDir: __dirname,
    flowFile: "flows.json",
    credentialSecret: false,  // flows_cred.json holds names of variables, no secrets
    readOnly: !editor,
    // Whoever reaches the editor may run any program as this user: on this machine only.
    uiHost: editor ? "127.0.0.1" : env.DASHBOARD_HOST || "127.0.0.1",
    uiPort: Number(env.DASHBOARD_PORT || 1880),
    httpAdminRoot: editor ? "/" : false,
    telemetry: { enabled: false, updateNotification: false },
    externalModules: { autoInstall: false, palette: { allowInstall: false } },
    functionExternalModules: false,
    diagnostics: { enabled: false, ui: false },
    mqttReconnectTime: 3000,
    logging: { console: { level: "info", metrics: false, audit: false } },
};
