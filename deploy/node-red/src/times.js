// Times as people at the wall read them, in the language and time zone of the browser.
const sameDay = (a, b) => a.toDateString() === b.toDateString();
function moment(text, now) {
    const time = new Date(text);
    const clock = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    return sameDay(time, new Date(now)) ? clock
        : time.toLocaleDateString([], { day: "numeric", month: "short" }) + ", " + clock;
}
function lasting(text, now) {
    const minutes = Math.max(0, Math.floor((now - new Date(text)) / 60000));
    if (minutes < 60) return minutes + " min";
    if (minutes < 1440) return Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
    return Math.floor(minutes / 1440) + " d " + Math.floor((minutes % 1440) / 60) + " h";
}
const ticking = {
    data: () => ({ now: Date.now(), ticker: null }),
    mounted() { this.ticker = setInterval(() => { this.now = Date.now(); }, 10000); },
    unmounted() { clearInterval(this.ticker); },
};
