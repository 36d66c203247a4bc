/* A disk that remembers: one file, "disk", whose writes and flushes are logged in their order.
 *
 *     logged_disk IMAGE LOG MOUNTPOINT
 *
 * Reads and writes go to IMAGE. Every write and every flush is appended to LOG before it is
 * answered, so that whoever saw an answer finds in the log what it rests on. Requests are served
 * one at a time: the order of the log is the order in which the disk was asked.
 *
 * An entry is a header of 16 bytes, little-endian: kind (1 write, 2 flush), length, offset; a
 * write's bytes follow. Runs in the foreground until the mount point is unmounted.
 *
 * SIGUSR1 makes it slow and fast again by turns: a disk with an arm, 100 requests and 20 MB a
 * second. Stopped by SIGSTOP it is a disk that hangs.
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { KIND_WRITE = 1, KIND_FLUSH = 2 };

struct entry {
    uint32_t kind;
    uint32_t length;
    uint64_t offset;
};

static const char *const NAME = "/disk";
static const long SEEK_NS = 10 * 1000 * 1000;
static const long BYTE_NS = 50;
static volatile sig_atomic_t is_slow = 0;
static int image = -1;
static int log_file = -1;

static void turn(int number)
{
    (void)number;
    is_slow = !is_slow;
}

static void wait_for_arm(size_t length)
{
    if (!is_slow)
        return;
    long long left_ns = SEEK_NS + BYTE_NS * (long long)length;
    struct timespec left = {left_ns / 1000000000, left_ns % 1000000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

static int append(uint32_t kind, uint64_t offset, const char *data, size_t length)
{
    struct entry entry = {kind, (uint32_t)length, offset};
    struct iovec parts[2] = {{&entry, sizeof entry}, {(void *)data, length}};
    ssize_t wanted = (ssize_t)(sizeof entry + length);
    ssize_t done = writev(log_file, parts, length > 0 ? 2 : 1);
    /* Half an entry would shift all that follow: then there is no proof, and no disk. */
    if (done != wanted)
        _exit(3);
    return 0;
}

static int disk_getattr(const char *path, struct stat *facts, struct fuse_file_info *file)
{
    (void)file;
    memset(facts, 0, sizeof *facts);
    if (strcmp(path, "/") == 0) {
        facts->st_mode = S_IFDIR | 0700;
        facts->st_nlink = 2;
        return 0;
    }
    if (strcmp(path, NAME) != 0)
        return -ENOENT;
    if (fstat(image, facts) != 0)
        return -errno;
    facts->st_mode = S_IFREG | 0600;
    facts->st_nlink = 1;
    return 0;
}

static int disk_open(const char *path, struct fuse_file_info *file)
{
    (void)file;
    return strcmp(path, NAME) == 0 ? 0 : -ENOENT;
}

static int disk_read(const char *path, char *target, size_t length, off_t offset,
                     struct fuse_file_info *file)
{
    (void)path;
    (void)file;
    wait_for_arm(length);
    ssize_t done = pread(image, target, length, offset);
    return done < 0 ? -errno : (int)done;
}

static int disk_write(const char *path, const char *source, size_t length, off_t offset,
                      struct fuse_file_info *file)
{
    (void)path;
    (void)file;
    wait_for_arm(length);
    ssize_t done = pwrite(image, source, length, offset);
    if (done < 0)
        return -errno;
    append(KIND_WRITE, (uint64_t)offset, source, (size_t)done);
    return (int)done;
}

static int disk_fsync(const char *path, int data_only, struct fuse_file_info *file)
{
    (void)path;
    (void)data_only;
    (void)file;
    return append(KIND_FLUSH, 0, NULL, 0);
}

static void *disk_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    (void)config;
    /* A write that waited in the kernel would reach the log after the answer that rests on it. */
    connection->want &= ~FUSE_CAP_WRITEBACK_CACHE;
    return NULL;
}

static const struct fuse_operations operations = {
    .init = disk_init,
    .getattr = disk_getattr,
    .open = disk_open,
    .read = disk_read,
    .write = disk_write,
    .fsync = disk_fsync,
};

int main(int count, char **words)
{
    if (count != 4) {
        fprintf(stderr, "usage: logged_disk IMAGE LOG MOUNTPOINT\n");
        return 2;
    }
    image = open(words[1], O_RDWR | O_CLOEXEC);
    log_file = open(words[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (image < 0 || log_file < 0) {
        perror("logged_disk");
        return 1;
    }
    struct sigaction action = {.sa_handler = turn, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    char *options[] = {words[0], "-f", "-s", words[3], NULL};
    return fuse_main(4, options, &operations, NULL);
}
