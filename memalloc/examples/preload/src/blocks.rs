//! Blocks of up to 4096 bytes, from one allocator.
//!
//! The allocator is built when the library is loaded. Before that, and wherever a call of the
//! allocator leads back to `malloc`, every block comes from the C library. Such calls register
//! destructors of thread-local values or read a file.
//!
//! A slab of 64 KiB holds objects of one class as long as one of them is outside. A table with an
//! entry for each slab therefore tells the size of a block, and whether it is one of these.

use memalloc::{
    AfterRcuGp, AfterTasksTraceGp, ClassTable, FreeAfterRcuGp, Handle, Immediate, MAX_SIZE,
    MemAlloc, PolicyKind, ReusePolicy, Stats,
};
use std::alloc::Layout;
use std::cell::Cell;
use std::error::Error;
use std::io::Write;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::{env, fs};

/// Size of a slab, in bytes.
const SLAB_BYTES: usize = 64 << 10;

/// The slabs that handles can address: 64 GiB.
const SLABS: usize = 1 << 20;

/// For each slab, the size of its objects; 0 if it never had any. Only the pages that are used are
/// ever backed by memory.
static SIZES: [AtomicU16; SLABS] = [const { AtomicU16::new(0) }; SLABS];

/// The functions of an allocator, whatever its policy.
trait Objects: Send + Sync {
    fn alloc(&self, layout: Layout) -> Option<NonNull<[u8]>>;

    /// # Safety
    ///
    /// As [`MemAlloc::free`].
    unsafe fn free(&self, object: NonNull<u8>, layout: Layout);

    fn stats(&self) -> Stats;
}

impl<P: ReusePolicy> Objects for MemAlloc<P> {
    fn alloc(&self, layout: Layout) -> Option<NonNull<[u8]>> {
        self.alloc(layout).ok()
    }

    unsafe fn free(&self, object: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free(object, layout) };
    }

    fn stats(&self) -> Stats {
        self.stats()
    }
}

struct Heap {
    objects: Box<dyn Objects>,
    /// The address of the first slab.
    start: usize,
}

static HEAP: OnceLock<Heap> = OnceLock::new();

impl Heap {
    fn of<P: ReusePolicy>() -> Result<Self, Box<dyn Error>> {
        // The builder reads `MEMALLOC_CPU_MODE`.
        let alloc = MemAlloc::<P>::builder().classes(ClassTable::fine(MAX_SIZE)?).build()?;
        // A handle is the distance from the start, in units of 16 bytes.
        let unit = Handle::new(1).ok_or("a handle is never 0")?;
        let start = alloc.pointer(unit).addr().get() - memalloc::UNIT;
        Ok(Self { objects: Box::new(alloc), start })
    }

    /// Builds the allocator that the environment asks for.
    fn of_environment() -> Result<Self, Box<dyn Error>> {
        let policy = match env::var("MEMALLOC_POLICY") {
            Ok(name) => name.parse()?,
            Err(env::VarError::NotPresent) => PolicyKind::Immediate,
            Err(error) => return Err(error.into()),
        };
        match policy {
            PolicyKind::Immediate => Self::of::<Immediate>(),
            PolicyKind::AfterRcuGp => Self::of::<AfterRcuGp>(),
            PolicyKind::FreeAfterRcuGp => Self::of::<FreeAfterRcuGp>(),
            PolicyKind::AfterTasksTraceGp => Self::of::<AfterTasksTraceGp>(),
            other => Err(format!("the policy {other} is not known here").into()),
        }
    }

    /// Returns the entry of the slab that has this address, if handles can address it.
    fn size_at(&self, address: usize) -> Option<&'static AtomicU16> {
        SIZES.get(address.wrapping_sub(self.start) / SLAB_BYTES)
    }
}

thread_local! {
    /// True while this thread is in a call of the allocator, or forks. Has no destructor, so that
    /// an access never allocates.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A call of the allocator.
struct Call {
    was_inside: bool,
}

impl Call {
    fn begin() -> Self {
        Self { was_inside: INSIDE.replace(true) }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        INSIDE.set(self.was_inside);
    }
}

/// Allocates a block, or returns `None` if the C library has to.
pub(crate) fn allocate(size: usize, align: usize) -> Option<NonNull<[u8]>> {
    let heap = HEAP.get().filter(|_| size <= MAX_SIZE)?;
    let call = Call::begin();
    if call.was_inside {
        return None;
    }
    let block = heap.objects.alloc(Layout::from_size_align(size, align).ok()?)?;
    // A thread that frees the block learns its address after this store, and during the block's
    // life all threads store the same value. So no ordering is needed.
    heap.size_at(block.addr().get())?.store(block.len() as u16, Ordering::Relaxed);
    Some(block)
}

/// Returns the size of a block, or `None` for a block of the C library.
pub(crate) fn size_of(block: NonNull<u8>) -> Option<usize> {
    let size = HEAP.get()?.size_at(block.addr().get())?.load(Ordering::Relaxed);
    (size > 0).then_some(size.into())
}

/// Frees a block. Keeps `errno`, as `free` has to.
///
/// # Safety
///
/// The block came from [`allocate`], has the size that [`size_of`] returns, and is not used or
/// freed again.
pub(crate) unsafe fn free(block: NonNull<u8>, size: usize) {
    let (Some(heap), Ok(layout)) = (HEAP.get(), Layout::from_size_align(size, 1)) else { return };
    // A free inside a call is allowed: frees are async-signal-safe.
    let _call = Call::begin();
    // SAFETY: the address of `errno` is valid for the thread. The layout of an object's class
    // stands for every layout that the class serves; the rest is the caller's promise.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        heap.objects.free(block, layout);
        *errno = before;
    }
}

/// While a thread forks it holds the allocator's locks, and fork handlers that are older than the
/// allocator's may allocate.
extern "C" fn fork_begins() {
    INSIDE.set(true);
}

extern "C" fn fork_ended() {
    INSIDE.set(false);
}

extern "C" fn loaded() {
    let call = Call::begin();
    match Heap::of_environment() {
        Ok(heap) => {
            _ = HEAP.set(heap);
            // SAFETY: the handlers are functions of this library, which is never unloaded.
            unsafe { libc::pthread_atfork(Some(fork_begins), Some(fork_ended), Some(fork_ended)) };
        }
        Err(error) => {
            eprintln!("libpreload.so: {error}");
            // SAFETY: a plain system call; nothing has begun yet.
            unsafe { libc::_exit(1) };
        }
    }
    drop(call);
}

/// Runs after the constructors with a priority, among them `memalloc`'s.
#[used]
// SAFETY: the section is a list of functions of this type.
#[unsafe(link_section = ".init_array")]
static WHEN_LOADED: extern "C" fn() = loaded;

extern "C" fn ended() {
    let (Some(heap), Some(path)) = (HEAP.get(), env::var_os("MEMALLOC_REPORT")) else { return };
    let _call = Call::begin();
    let stats = heap.objects.stats();
    let line = format!("{} {} {}\n", stats.slabs_opened, stats.policy, stats.cpu_mode);
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    // A process that may not write there goes without a report.
    _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}

#[used]
// SAFETY: as for `.init_array`.
#[unsafe(link_section = ".fini_array")]
static WHEN_ENDED: extern "C" fn() = ended;
