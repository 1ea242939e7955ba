/* An echo server, the master, and a program that pings it, the slaves.
 *
 *     echo master PORT PINGS
 *     echo slave ADDRESS PORT PINGS
 *
 * The master serves SYNDICATE_MACHINES - 1 slaves at once and ends with status 0 when each has
 * sent all its pings. Both give up after a minute.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64, MOST_SLAVES = 256, PATIENCE = 60 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* Writes or reads `size` bytes; false when the other side has gone. */
static int transfer(int link, char *data, size_t size, int writing)
{
    while (size > 0) {
        ssize_t done = writing ? write(link, data, size) : read(link, data, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return 0;
        data += done;
        size -= (size_t)done;
    }
    return 1;
}

static void say_who(const char *role)
{
    const char *machine = getenv("SYNDICATE_MACHINE");
    const char *address = getenv("SYNDICATE_ADDRESS");
    printf("I am %s (%s) at %s, uid %ld\n", machine ? machine : "by hand", role,
           address ? address : "any address", (long)getuid());
}

static int listen_on(int port)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    if (listener < 0)
        die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0)
        die("bind");
    if (listen(listener, 64) < 0)
        die("listen");
    return listener;
}

static int master(int port, long pings)
{
    const char *machines = getenv("SYNDICATE_MACHINES");
    long expected = (machines ? atol(machines) : 2) - 1, ended = 0, whole = 0;
    long long echoed[MOST_SLAVES + 1] = {0};
    struct pollfd ends[MOST_SLAVES + 1] = {{.fd = listen_on(port), .events = POLLIN}};
    int count = 1;
    char data[16384];

    if (expected > MOST_SLAVES) {
        fprintf(stderr, "master: this example serves %d slaves at most\n", MOST_SLAVES);
        return 1;
    }
    printf("waiting for %ld slaves on port %d\n", expected, port);
    while (ended < expected) {
        if (poll(ends, (nfds_t)count, -1) < 0)
            die("poll");
        for (int i = count - 1; i > 0; i--) {
            if (!ends[i].revents)
                continue;
            ssize_t got = read(ends[i].fd, data, sizeof data);
            if (got > 0 && transfer(ends[i].fd, data, (size_t)got, 1)) {
                echoed[i] += got;
                continue;
            }
            whole += echoed[i] == (long long)pings * SIZE;
            ended++;
            close(ends[i].fd);
            count--;
            ends[i] = ends[count];
            echoed[i] = echoed[count];
        }
        if (ends[0].revents && count <= MOST_SLAVES) {
            struct sockaddr_in there;
            socklen_t length = sizeof there;
            int link = accept(ends[0].fd, (struct sockaddr *)&there, &length);
            if (link < 0)
                die("accept");
            printf("a slave has come from %s\n", inet_ntoa(there.sin_addr));
            ends[count] = (struct pollfd){.fd = link, .events = POLLIN};
            echoed[count++] = 0;
        }
    }
    printf("%ld of %ld slaves sent all their %ld pings\n", whole, expected, pings);
    return whole == expected ? 0 : 1;
}

static int connect_to(const char *address, int port)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
    if (inet_pton(AF_INET, address, &there.sin_addr) != 1) {
        fprintf(stderr, "slave: '%s' is not an IPv4 address\n", address);
        exit(2);
    }
    /* A slave may be started before its master listens; the alarm ends this. */
    for (;;) {
        int link = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
        if (link < 0)
            die("socket");
        if (connect(link, (struct sockaddr *)&there, sizeof there) == 0) {
            setsockopt(link, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            return link;
        }
        close(link);
        nanosleep(&pause, NULL);
    }
}

static int slave(const char *address, int port, long pings)
{
    char ping[SIZE], echo[SIZE];
    double total = 0, longest = 0;
    int link = connect_to(address, port);

    for (long i = 0; i < pings; i++) {
        memset(ping, (int)('a' + i % 26), SIZE);
        double started = now();
        if (!transfer(link, ping, SIZE, 1) || !transfer(link, echo, SIZE, 0)) {
            fprintf(stderr, "slave: the master has gone after %ld pings\n", i);
            return 1;
        }
        double took = now() - started;
        if (memcmp(ping, echo, SIZE) != 0) {
            fprintf(stderr, "slave: echo %ld is not what was sent\n", i);
            return 1;
        }
        total += took;
        longest = took > longest ? took : longest;
    }
    close(link);
    printf("%ld pings to %s: %.0f us on average, %.0f us at most\n", pings, address,
           total / (double)pings * 1e6, longest * 1e6);
    return 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    alarm(PATIENCE);
    if (argc == 4 && strcmp(argv[1], "master") == 0) {
        say_who("master");
        return master(atoi(argv[2]), atol(argv[3]));
    }
    if (argc == 5 && strcmp(argv[1], "slave") == 0) {
        say_who("slave");
        return slave(argv[2], atoi(argv[3]), atol(argv[4]));
    }
    fprintf(stderr, "usage: echo master PORT PINGS | echo slave ADDRESS PORT PINGS\n");
    return 2;
}
