/* The minimum cost of a UDP server: sets QR and sends each datagram back, in batches of up to 64.
 * recvmmsg with MSG_WAITFORONE blocks until one datagram arrives, then takes all that are there. `echo PORT` */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 64, SIZE = 2048 };

static unsigned char data[BATCH][SIZE];
static struct sockaddr_in from[BATCH];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];

int main(int argc, char **argv)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    here.sin_port = htons(argc > 1 ? atoi(argv[1]) : 0);
    if (sock < 0 || bind(sock, (struct sockaddr *)&here, sizeof here) < 0) {
        perror("echo");
        return 1;
    }
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){data[i], SIZE};
            messages[i].msg_hdr = (struct msghdr){
                .msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &parts[i], .msg_iovlen = 1};
        }
        int count = recvmmsg(sock, messages, BATCH, MSG_WAITFORONE, NULL);
        for (int i = 0; i < count; i++) {
            parts[i].iov_len = messages[i].msg_len;
            data[i][2] |= 0x80;
        }
        for (int sent = 0, more; sent < count; sent += more)
            if ((more = sendmmsg(sock, messages + sent, count - sent, 0)) <= 0)
                break;
    }
}
