/* LD_PRELOAD shim: makes fsync and fdatasync slower, so that a fast disk stands in for an SD card, and the yardstick of a
 * benchmark is slowed with it. Real durability is kept: the call is made after the delay.
 *
 *   cc -O2 -shared -fPIC -o slowsync.so slowsync.c
 *   SYNC_DELAY_US=5000 LD_PRELOAD=./slowsync.so COMMAND
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long delay_us;

__attribute__((constructor)) static void read_delay(void)
{
    const char *text = getenv("SYNC_DELAY_US");
    delay_us = text ? atol(text) : 0;
}

static void wait_a_little(void)
{
    struct timespec wait = {delay_us / 1000000, (delay_us % 1000000) * 1000};
    if (delay_us > 0)
        nanosleep(&wait, NULL);
}

int fsync(int descriptor)
{
    wait_a_little();
    return syscall(SYS_fsync, descriptor);
}

int fdatasync(int descriptor)
{
    wait_a_little();
    return syscall(SYS_fdatasync, descriptor);
}
