/* Stands between a program and the calls by which it writes files (LD_PRELOAD).
 *
 * Of those below the folder CALLS_BELOW, each is a line in the file CALLS_LOG: its name and
 * its path, or both of them. The CALLS_NTH of the name CALLS_FAIL and, unless CALLS_LAST is
 * empty, every later one fails with the error CALLS_ERROR; its line begins with "failed". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long count;

static int is_below(const char *path) {
  const char *below = getenv("CALLS_BELOW");
  return below && path && strncmp(path, below, strlen(below)) == 0;
}

/* Whether the call shall fail; errno is set then. */
static int fails(const char *name, const char *path, const char *other) {
  const char *fail = getenv("CALLS_FAIL"), *log = getenv("CALLS_LOG"), *last = getenv("CALLS_LAST");
  char line[2 * PATH_MAX + 64];
  int failed = 0;
  if (!is_below(path) || !log) return 0;
  pthread_mutex_lock(&lock);
  if (fail && strcmp(fail, name) == 0) {
    long nth = atol(getenv("CALLS_NTH"));
    count++;
    failed = count == nth || (count > nth && last && *last);
  }
  int length = snprintf(line, sizeof line, "%s%s %s%s%s\n", failed ? "failed " : "", name, path,
                        other ? " " : "", other ? other : "");
  int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (syscall(SYS_write, fd, line, (size_t)length) != length) abort();
  syscall(SYS_close, fd);
  pthread_mutex_unlock(&lock);
  if (failed) errno = atoi(getenv("CALLS_ERROR"));
  return failed;
}

static int fd_fails(const char *name, int fd) {
  char link[64], path[PATH_MAX];
  int before = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  errno = before;
  if (length < 0) return 0;
  path[length] = 0;
  return fails(name, path, NULL);
}

#define REAL(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

#define OPEN(function)                                                        \
  int function(const char *path, int flags, ...) {                            \
    va_list rest;                                                             \
    va_start(rest, flags);                                                    \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;   \
    va_end(rest);                                                             \
    if ((flags & O_CREAT) && fails("create", path, NULL)) return -1;          \
    return REAL(function)(path, flags, mode);                                 \
  }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *bytes, size_t length) {
  return fd_fails("write", fd) ? -1 : REAL(write)(fd, bytes, length);
}

int fsync(int fd) { return fd_fails("fsync", fd) ? -1 : REAL(fsync)(fd); }

int mkdir(const char *path, mode_t mode) {
  return fails("mkdir", path, NULL) ? -1 : REAL(mkdir)(path, mode);
}

int rename(const char *from, const char *to) {
  return fails("rename", from, to) ? -1 : REAL(rename)(from, to);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
  return fails("link", from, to) ? -1 : REAL(linkat)(from_dir, from, to_dir, to, flags);
}
