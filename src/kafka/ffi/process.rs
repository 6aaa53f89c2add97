//! How the process is set up for librdkafka.

#![allow(unsafe_code, reason = "there is no safe mallopt")]

/// Arenas of glibc's allocator: one for each thread that is busy while a window is read.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: i32 = 4;

/// Sets up the process; to be called before the first thread is started.
pub fn prepare_process() {
    bound_heaps();
    // OpenSSL tidies up when the process exits, under the hands of those of librdkafka's threads
    // that still speak TLS. It does not when this is its first call.
    openssl_sys::init();
}

/// What librdkafka's threads fetch is freed by other threads, and with a heap for each of them
/// (up to eight times the cores) what is free in one is not used by the next: the peak of ten
/// million events was 135 to 208 MiB from run to run, with four heaps 128 to 137, and the CPU
/// no more. `MALLOC_ARENA_MAX` in the environment goes first. With another C library this
/// does nothing.
fn bound_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: mallopt takes two numbers and reports failure, which leaves all as it was, by
        // its result; no other thread runs yet.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
    }
}
