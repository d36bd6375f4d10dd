/* Preloaded into a process, it shifts that process's wall clock by CLOCK_SHIFT_S seconds, and nothing else: the clocks that
 * measure durations stay right. A box without a clock chip that boots in 1970 looks like this to its programs, OpenSSL included.
 *
 *   cc -O2 -shared -fPIC -o clockshim.so clockshim.c
 *   CLOCK_SHIFT_S=-1800000000 LD_PRELOAD=./clockshim.so COMMAND
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long shift;

__attribute__((constructor)) static void read_shift(void)
{
    const char *text = getenv("CLOCK_SHIFT_S");
    shift = text ? atoll(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += shift;
    return failed;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out)
        *out = exact.tv_sec;
    return exact.tv_sec;
}
