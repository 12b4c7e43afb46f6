/* In the machine of scripts/memory-vm: a worker with the titles of Airflow 2, and an eater of memory. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void nap(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void start(char **words) {
    if (fork() == 0) execv("/proc/self/exe", words);
}

/* eat MILLISECONDS: waits so long, then takes one MiB after the other. */
static void eat(long wait) {
    nap(wait);
    for (;;) {
        char *piece = malloc(1 << 20);
        memset(piece, 1, 1 << 20);
        nap(2);
    }
}

/* supervise LOG MILLISECONDS: starts a task, has its log open, and says when it ended. */
static void supervise(char *log, char *wait) {
    int status, file = open(log, O_CREAT | O_WRONLY | O_APPEND, 0644);
    char *task[] = {"airflow task runner: d t r 7", "eat", wait, NULL};
    dprintf(file, "begins\n");
    start(task);
    waitpid(-1, &status, 0);
    printf("the task ended by signal %d at %.3f\n", WTERMSIG(status), now());
    fflush(stdout);
    for (;;) pause();
}

int main(int count, char **words) {
    if (count < 3) return 2;
    if (strcmp(words[1], "eat") == 0) eat(atol(words[2]));
    if (strcmp(words[1], "supervise") == 0) supervise(words[2], words[3]);
    char *supervisor[] = {"airflow task supervisor: ['airflow', 'tasks', 'run', 'd', 't', 'r', '--local']", "supervise",
                          words[1], words[2], NULL};
    start(supervisor);
    for (;;) pause();
}
