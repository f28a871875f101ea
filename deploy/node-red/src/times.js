        // Times as people at the wall read them, in the language and time zone of the browser.
        moment(text) {
            const time = new Date(text);
            const clock = time.toLocaleTimeString([], { hour: "numeric", minute: "2-digit" });
            if (time.toDateString() === new Date(this.now).toDateString()) {
                return clock;
            }
            return time.toLocaleDateString([], { day: "numeric", month: "short" }) + ", " + clock;
        },
        lasting(text) {
            const minutes = Math.max(0, Math.floor((this.now - new Date(text)) / 60000));
            if (minutes < 60) {
                return minutes + " min";
            }
            return Math.floor(minutes / 60) + " h" + (minutes < 600 ? " " + minutes % 60 + " min" : "");
        },
