/*
 * TLS servers for the tests: `openssl s_server` as a child on a free loopback port, dying with the
 * test; and certificates made anew for each run of the program.
 */
#ifndef NEMOGATE_TESTS_TLS_PEER_H
#define NEMOGATE_TESTS_TLS_PEER_H

#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CERTS
#error "define CERTS: the folder for the certificates, one of each program's own"
#endif
#define CERT(name) CERTS "/" name

/* Before all tests, in the program that runs them. */
static inline void make_certificates(void)
{
    cr_assert_eq(system(TEST_DATA "/../tools/make_certs.sh " CERTS), 0);
}

struct tls_peer {
    pid_t pid;
    uint16_t port;
    int input; /* held open: s_server ends a connection where its own input ends */
    FILE *output;
};

/* options: what s_server gets beside its port, separated by blanks. */
static inline void tls_peer_start(struct tls_peer *peer, const char *options)
{
    int input[2];
    int output[2];
    char words[1024];
    const char *arguments[48] = {"openssl", "s_server", "-accept", "127.0.0.1:0"};
    size_t count = 4;
    cr_assert_lt(strlen(options), sizeof words);
    snprintf(words, sizeof words, "%s", options);
    for (char *word = strtok(words, " "); word != NULL; word = strtok(NULL, " "))
        arguments[count++] = word;
    cr_assert_eq(pipe2(input, O_CLOEXEC), 0);
    cr_assert_eq(pipe2(output, O_CLOEXEC), 0);
    pid_t parent = getpid();
    peer->pid = fork();
    cr_assert_geq(peer->pid, 0);
    if (peer->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        dup2(input[0], 0);
        dup2(output[1], 1);
        dup2(output[1], 2);
        execvp("openssl", (char *const *)(uintptr_t)arguments);
        _exit(1);
    }
    close(input[0]);
    close(output[1]);
    peer->input = input[1];
    peer->output = fdopen(output[0], "r");
    char line[256];
    unsigned port = 0;
    while (port == 0 && fgets(line, sizeof line, peer->output) != NULL)
        (void)sscanf(line, "ACCEPT 127.0.0.1:%u", &port);
    cr_assert_neq(port, 0, "openssl s_server did not start with: %s", options);
    peer->port = (uint16_t)port;
}

static inline void tls_peer_stop(struct tls_peer *peer)
{
    kill(peer->pid, SIGKILL);
    waitpid(peer->pid, NULL, 0);
    close(peer->input);
    fclose(peer->output);
}

#endif
