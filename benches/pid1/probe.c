/* The measuring side of benches/pid1, in C so that it costs nothing itself: it starts an init as PID 1 of a new PID
 * namespace, and is the command that the init runs. Figures go to standard output, one a line, in nanoseconds. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OUT 9 /* what the command writes its stamps to */

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(111);
}

static void stamp(int64_t value) {
    if (write(OUT, &value, sizeof value) != sizeof value) _exit(112);
}

static int64_t stamped(int fd) {
    int64_t value;
    return read(fd, &value, sizeof value) == sizeof value ? value : -1;
}

/* Starts argv as PID 1 of a new namespace, with the writing end of a new pipe as OUT. */
static pid_t start(char **argv, int *from) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC)) fail("pipe");
    pid_t pid = syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
    if (pid < 0) fail("clone");
    if (pid == 0) {
        if (fds[1] == OUT ? fcntl(OUT, F_SETFD, 0) : dup2(fds[1], OUT) < 0) _exit(113);
        if (getenv("PROBE_PROC") && mount("proc", "/proc", "proc", 0, 0)) _exit(114);
        execvp(argv[0], argv);
        _exit(115);
    }
    close(fds[1]);
    *from = fds[0];
    return pid;
}

/* COUNT runs: from clone to the command's first instruction, and to the end of the init. */
static int starts(int count, char **argv) {
    while (count-- > 0) {
        int from, status;
        int64_t begin = now();
        pid_t pid = start(argv, &from);
        int64_t first = stamped(from);
        if (waitpid(pid, &status, 0) != pid || status || first < 0) fail("start");
        printf("%lld %lld\n", (long long)(first - begin), (long long)(now() - begin));
        close(from);
    }
    return 0;
}

/* COUNT runs with TERM DELAY microseconds after clone: how many commands never heard of it. */
static int race(int delay, int count, char **argv) {
    int lost = 0;
    for (int run = 0; run < count; run++) {
        int from, status;
        int64_t begin = now();
        pid_t pid = start(argv, &from);
        while (now() < begin + delay * INT64_C(1000)) {}
        kill(pid, SIGTERM);
        if (waitpid(pid, &status, 0) != pid) fail("wait");
        lost += WIFEXITED(status) && WEXITSTATUS(status) == 0;
        close(from);
    }
    printf("%d\n", lost);
    return 0;
}

/* COUNT signals, one after the other: from kill to the return of the command's sigwaitinfo. */
static int latency(int count, char **argv) {
    int from;
    pid_t pid = start(argv, &from);
    if (stamped(from) < 0) fail("listener");
    while (count-- > 0) {
        struct timespec pause = {0, 300000};
        nanosleep(&pause, 0);
        int64_t begin = now(), end;
        kill(pid, SIGUSR1);
        if ((end = stamped(from)) < 0) fail("listener");
        printf("%lld\n", (long long)(end - begin));
    }
    kill(pid, SIGKILL);
    waitpid(pid, 0, 0);
    return 0;
}

/* Has COUNT orphans end at once below the init: from then until the last is off the list of processes. */
static int orphans(char **argv) {
    int from, status;
    pid_t pid = start(argv, &from);
    int64_t took = stamped(from);
    kill(pid, SIGTERM);
    if (waitpid(pid, &status, 0) != pid || took < 0) fail("orphans");
    printf("%lld\n", (long long)took);
    return 0;
}

/* The command of the former, below the init. With AUTO it is PID 1 itself and leaves reaping to the kernel. */
static int litter(int count, int automatic) {
    int gate[2], ready[2];
    pid_t *pids = calloc(count, sizeof *pids);
    if (pipe(gate) || pipe(ready)) fail("pipe");
    if (automatic) signal(SIGCHLD, SIG_IGN);
    pid_t parent = fork();
    if (parent == 0) {
        for (int i = 0; i < count; i++) {
            pid_t pid = fork();
            if (pid < 0) fail("fork");
            if (pid == 0) {
                char byte;
                close(gate[1]);
                if (read(gate[0], &byte, 1)) _exit(1);
                _exit(0);
            }
            if (write(ready[1], &pid, sizeof pid) != sizeof pid) fail("ready");
        }
        _exit(0);
    }
    close(gate[0]);
    for (int i = 0; i < count; i++)
        if (read(ready[0], pids + i, sizeof *pids) != sizeof *pids) fail("ready");
    if (!automatic) waitpid(parent, 0, 0);
    else while (!kill(parent, 0)) sched_yield();
    int64_t begin = now();
    close(gate[1]);
    for (int i = 0; i < count; i++)
        while (!kill(pids[i], 0)) {
            struct timespec pause = {0, 200000};
            nanosleep(&pause, 0);
        }
    stamp(now() - begin);
    if (!automatic) pause();
    return 0;
}

/* An init that only sleeps: its number, then SECONDS until it is killed by whoever reads it. */
static int idle(char **argv) {
    int from;
    pid_t pid = start(argv, &from);
    if (stamped(from) < 0) fail("idle");
    printf("%d\n", pid);
    fflush(stdout);
    char byte;
    if (read(0, &byte, 1) < 0) fail("stdin");
    kill(pid, SIGKILL);
    waitpid(pid, 0, 0);
    return 0;
}

int main(int argc, char **argv) {
    int64_t first = now();
    const char *what = argc > 1 ? argv[1] : "";
    int number = argc > 2 ? atoi(argv[2]) : 0;
    if (!strcmp(what, "stamp")) return stamp(first), 0;
    if (!strcmp(what, "nap")) return stamp(first), usleep(number), 0;
    if (!strcmp(what, "sleep")) return stamp(first), pause(), 0;
    if (!strcmp(what, "litter")) return litter(number, 0);
    if (!strcmp(what, "auto")) return litter(number, 1);
    if (!strcmp(what, "listen")) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, 0);
        for (;; stamp(now()))
            if (number++ > 0) sigwaitinfo(&set, 0);
    }
    if (!strcmp(what, "starts") || !strcmp(what, "race") || !strcmp(what, "latency")) {
        /* What else the machine does must not count. Where that is not allowed, it does. */
        struct sched_param first_in = {.sched_priority = 10};
        sched_setscheduler(0, SCHED_FIFO, &first_in);
    }
    if (!strcmp(what, "starts")) return starts(number, argv + 3);
    if (!strcmp(what, "race")) return race(number, atoi(argv[3]), argv + 4);
    if (!strcmp(what, "latency")) return latency(number, argv + 3);
    if (!strcmp(what, "orphans")) return orphans(argv + 2);
    if (!strcmp(what, "idle")) return idle(argv + 2);
    fprintf(stderr, "probe: what?\n");
    return 2;
}
