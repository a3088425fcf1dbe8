/* A clock of a process's own: what the C library and the kernel tell of the time of day is moved by as many seconds
 * as the file STEPPED_CLOCK says. It holds three native 64-bit numbers: seconds before a step, seconds after it,
 * and when the step was, in nanoseconds since 1970 by the machine's clock. Packets that the kernel received before
 * the step bear the time that the clock had then. Times that count from another moment (monotonic) are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *step;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("STEPPED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        _exit(70);
    void *map = mmap(NULL, 3 * sizeof *step, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (map == MAP_FAILED)
        _exit(70);
    step = map;
}

/* Seconds by which a moment of the machine's clock is to be moved. */
static int64_t moved(const struct timespec *at)
{
    int64_t nanos = (int64_t)at->tv_sec * 1000000000 + at->tv_nsec;
    if (!step)
        return 0;
    return nanos < step[2] ? step[0] : step[1];
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, at);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += moved(at);
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

static void move_received(struct msghdr *message)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SO_TIMESTAMPNS)
            continue;
        struct timespec at;
        memcpy(&at, CMSG_DATA(part), sizeof at);
        at.tv_sec += moved(&at);
        memcpy(CMSG_DATA(part), &at, sizeof at);
    }
}

ssize_t recvmsg(int socket, struct msghdr *message, int flags)
{
    static ssize_t (*real)(int, struct msghdr *, int);
    if (!real)
        real = dlsym(RTLD_NEXT, "recvmsg");
    ssize_t result = real(socket, message, flags);
    if (result >= 0)
        move_received(message);
    return result;
}

int recvmmsg(int socket, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *limit)
{
    static int (*real)(int, struct mmsghdr *, unsigned int, int, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "recvmmsg");
    int result = real(socket, messages, count, flags, limit);
    for (int i = 0; i < result; i++)
        move_received(&messages[i].msg_hdr);
    return result;
}
