    mounted() {
        this.ticker = setInterval(() => { this.now = Date.now(); }, 10000);
    },
    unmounted() {
        clearInterval(this.ticker);
    },
