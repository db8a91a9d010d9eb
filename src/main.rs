//! The program: the allocator, the connectors, and the command line.

mod connectors;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// After so long memory that was freed goes back to the system. The default is a second, in which a fast stream frees as
/// much as it holds; shorter than a tick takes costs more in clearing pages than it saves.
const PURGE_DELAY_MS: std::ffi::c_long = 200;

fn main() -> ! {
    // SAFETY: it sets a number, which the environment's MIMALLOC_PURGE_DELAY overrules.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) };
    thalweg_cli::main(connectors::registry())
}
