/* A benchmark client that kills the last slave and revives it on an emptied disk.
 *
 *     client MASTER [SLAVE,SLAVE...]
 *
 * Each request has a connection of its own, which the door closes behind its answer: so there is
 * nothing to parse but the status.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { NO_DOOR = 69 };

/* Connects to the door, or ends the program. */
static int knock(void)
{
    struct sockaddr_un door = {.sun_family = AF_UNIX};
    const char *path = getenv("SYNDICATE_SOCKET");
    int link = socket(AF_UNIX, SOCK_STREAM, 0);

    if (!path || strlen(path) >= sizeof door.sun_path) {
        fprintf(stderr, "client: SYNDICATE_SOCKET names no socket\n");
        exit(NO_DOOR);
    }
    strcpy(door.sun_path, path);
    if (link < 0 || connect(link, (struct sockaddr *)&door, sizeof door) < 0) {
        perror(path);
        exit(NO_DOOR);
    }
    return link;
}

static void send_all(int link, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = write(link, data, size);
        if (sent <= 0) {
            perror("write");
            exit(NO_DOOR);
        }
        data += sent;
        size -= (size_t)sent;
    }
}

/* Posts a body and prints what is answered; true if it was done. */
static int post(const char *path, const char *body)
{
    char request[1024], answer[8192];
    size_t have = 0;
    ssize_t got;
    int link = knock(), status = 0;

    snprintf(request, sizeof request,
             "POST %s HTTP/1.1\r\nHost: door\r\nConnection: close\r\n"
             "Content-Length: %zu\r\n\r\n%s",
             path, strlen(body), body);
    send_all(link, request, strlen(request));
    while (have < sizeof answer - 1 &&
           (got = read(link, answer + have, sizeof answer - 1 - have)) > 0)
        have += (size_t)got;
    answer[have] = 0;
    close(link);
    sscanf(answer, "HTTP/1.1 %d", &status);
    const char *told = strstr(answer, "\r\n\r\n");
    fprintf(status == 200 ? stdout : stderr, "%s: %d %s", path, status, told ? told + 4 : "\n");
    return status == 200;
}

int main(int argc, char **argv)
{
    char order[256];
    int passed;

    if (argc < 2) {
        fprintf(stderr, "usage: client MASTER [SLAVE,SLAVE...]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    const char *slaves = argc > 2 ? argv[2] : argv[1], *comma = strrchr(slaves, ',');
    const char *victim = comma ? comma + 1 : slaves;

    snprintf(order, sizeof order, "{\"ip\": \"%s\"}", victim);
    passed = post("/v1/faults/kill", order);
    snprintf(order, sizeof order, "{\"ip\": \"%s\", \"with_disk\": false}", victim);
    passed = passed && post("/v1/faults/revive", order);
    snprintf(order, sizeof order, "{\"passed\": %s, \"notes\": \"from C\"}",
             passed ? "true" : "false");
    return post("/v1/finish", order) ? 0 : 1;
}
