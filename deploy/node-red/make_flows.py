#!/usr/bin/python3
"""Writes flows.json and flows_cred.json from the files in src/: Node-RED keeps functions, templates
and style as JSON strings, which nobody can read or compare. After a change in src/ run this; after
a change in the editor bring it back to src/. --check writes nothing and exits 1 on a difference."""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TAB, BROKER, TLS, BASE, THEME, PAGE, MODEL = ("nemo-tab", "nemo-broker", "nemo-tls", "nemo-base",
                                              "nemo-theme", "nemo-page", "nemo-model")
COLUMNS = [{"name": "Phone", "px": 0, "cols": 3}, {"name": "Tablet", "px": 576, "cols": 6},
           {"name": "Small screen", "px": 768, "cols": 9}, {"name": "Wall", "px": 1024, "cols": 12}]


def source(name):
    text = (HERE / "src" / name).read_text(encoding="utf-8")
    return re.sub(r"^//include (\S+)\n", lambda found: source(found[1]), text, flags=re.M)


def variable(name, value, type="env"):
    return {"name": name, "value": value, "type": type}


def settings():
    return [
        {"id": TAB, "type": "tab", "label": "Wall of tools", "disabled": False,
         "info": "What nemogate publishes for one NEMO site, as a page for a screen on the wall.",
         "env": [variable("PREFIX", "nemo/${NEMO_SITE}"),
                 variable("TOOLS", "nemo/${NEMO_SITE}/tools/+/state"),
                 variable("AREAS", "nemo/${NEMO_SITE}/areas/+/state"),
                 variable("SENSORS", "nemo/${NEMO_SITE}/sensors/+/value"),
                 variable("FACILITY", "nemo/${NEMO_SITE}/facility/+")]},
        {"id": BROKER, "type": "mqtt-broker", "name": "broker", "broker": "${MQTT_HOST}",
         "port": "${MQTT_PORT}", "tls": TLS, "clientid": "", "autoConnect": True, "usetls": True,
         "protocolVersion": "5", "keepalive": "30", "cleansession": True, "autoUnsubscribe": True,
         "birthTopic": "", "closeTopic": "", "willTopic": "", "userProps": "", "sessionExpiry": ""},
        {"id": TLS, "type": "tls-config", "name": "the broker's CA", "cert": "", "key": "",
         "ca": "${MQTT_CA}", "certname": "", "keyname": "", "caname": "", "servername": "",
         "verifyservercert": True, "alpnprotocol": ""},
        {"id": BASE, "type": "ui-base", "name": "NEMO", "path": "/dashboard", "appIcon": "",
         "includeClientData": False, "acceptsClientConfig": [], "showPathInSidebar": False,
         "headerContent": "page", "navigationStyle": "none", "titleBarStyle": "hidden",
         "showReconnectNotification": True, "notificationDisplayTime": 5,
         "showDisconnectNotification": True, "allowInstall": False},
        {"id": THEME, "type": "ui-theme", "name": "Dark wall",
         "colors": {"surface": "#10161d", "primary": "#4ea1ff", "bgPage": "#10161d",
                    "groupBg": "#10161d", "groupOutline": "#10161d"},
         "sizes": {"density": "default", "pagePadding": "14px", "groupGap": "14px",
                   "groupBorderRadius": "8px", "widgetGap": "8px"}},
        {"id": PAGE, "type": "ui-page", "name": "Wall", "ui": BASE, "path": "/wall",
         "icon": "monitor-dashboard", "layout": "grid", "theme": THEME, "breakpoints": COLUMNS,
         "order": 1, "className": "nemo-wall", "visible": "true", "disabled": "false"},
    ]


def group(id, name, width, order, title):
    return {"id": f"group-{id}", "type": "ui-group", "name": name, "page": PAGE,
            "width": str(width), "height": "1", "order": order, "showTitle": title,
            "className": f"nemo-group-{id}", "visible": "true", "disabled": "false",
            "groupType": "default"}


def template(id, name, width, y, file=None):
    return {"id": f"nemo-{id}", "type": "ui-template", "z": TAB, "group": f"group-{id}",
            "page": "", "ui": "", "name": name, "order": 1, "width": str(width), "height": "0",
            "head": "", "format": source(file or f"{id}.vue"), "storeOutMessages": True, "passthru": False,
            "resendOnRefresh": True, "templateScope": "local", "className": "", "x": 660, "y": y,
            "wires": [[]]}


def subscription(id, name, topic, qos, y):
    return {"id": f"nemo-in-{id}", "type": "mqtt in", "z": TAB, "name": name, "topic": topic,
            "qos": str(qos), "datatype": "utf8", "broker": BROKER, "nl": False, "rap": True,
            "rh": 0, "inputs": 0, "x": 150, "y": y, "wires": [[MODEL]]}


def flow():
    return [
        subscription("tools", "tools", "${TOOLS}", 1, 80),
        subscription("areas", "areas", "${AREAS}", 1, 140),
        subscription("sensors", "sensors", "${SENSORS}", 0, 200),
        subscription("facility", "alerts, safety, closures", "${FACILITY}", 1, 260),
        subscription("gateway", "nemogate's own status", "nemogate/+/status", 1, 320),
        {"id": "nemo-status", "type": "status", "z": TAB, "name": "connection",
         "scope": ["nemo-in-tools"], "x": 150, "y": 380, "wires": [[MODEL]]},
        {"id": MODEL, "type": "function", "z": TAB, "name": "newest state of each topic",
         "func": source("model.js"), "outputs": 6, "timeout": 0, "noerr": 0,
         "initialize": source("model.start.js"), "finalize": "", "libs": [], "x": 420, "y": 220,
         "wires": [["nemo-notices"], ["nemo-tools"], ["nemo-areas"], ["nemo-sensors"],
                   ["nemo-gauge"], ["nemo-groups"]]},
        template("notices", "head and notices", 12, 80),
        template("tools", "wall of tools", 9, 140),
        template("areas", "areas", 3, 200),
        template("sensors", "all sensors", 3, 260),
        {"id": "nemo-gauge", "type": "ui-gauge", "z": TAB, "name": "one sensor",
         "group": "group-gauge", "order": 1, "value": "payload", "valueType": "msg",
         "width": "3", "height": "3", "gtype": "gauge-half", "gstyle": "rounded", "title": "",
         "alwaysShowTitle": False, "floatingTitlePosition": "top-left", "units": "", "icon": "",
         "prefix": "", "suffix": "", "segments": [{"from": "0", "color": "#4ea1ff"}], "min": 0,
         "max": 100, "sizeThickness": 16, "sizeGap": 4, "sizeKeyThickness": 8,
         "styleRounded": True, "styleGlow": False, "className": "nemo-gauge", "x": 660, "y": 320,
         "wires": [[]]},
        {"id": "nemo-groups", "type": "ui-control", "z": TAB, "name": "hide empty groups",
         "ui": BASE, "events": "change", "x": 670, "y": 380, "wires": [[]]},
        {**template("style", "style", 0, 440, "wall.css"), "group": "", "page": PAGE,
         "templateScope": "page:style"},
    ]


def files():
    groups = [group("notices", "Notices", 12, 1, False), group("tools", "Tools", 9, 2, False),
              group("areas", "Areas", 3, 3, True), group("gauge", "Gauge", 3, 4, False),
              group("sensors", "Sensors", 3, 5, True)]
    secrets = {BROKER: {"user": "${MQTT_USER}", "password": "${MQTT_PASSWORD}"}}
    return {"flows.json": [*settings(), *groups, *flow()], "flows_cred.json": secrets}


def main():
    status = 0
    for name, content in files().items():
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        path = HERE / name
        if sys.argv[1:] != ["--check"]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{name} is not what src/ says: run deploy/node-red/make_flows.py")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
