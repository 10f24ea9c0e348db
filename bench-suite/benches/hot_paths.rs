//! The hot paths of `memalloc`, each on one thread, to check whether a change made one of them
//! slower. The command `alloc` compares `memalloc` with other allocators, in turns.

use std::alloc::Layout;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use memalloc::rcu::{BarrierKind, Domain};
use memalloc::{AfterRcuGp, Immediate, MemAlloc, ReusePolicy};

const SIZES: [usize; 5] = [16, 64, 256, 1024, 4096];

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 16).expect("a small power of two")
}

fn allocator<P: ReusePolicy>() -> MemAlloc<P> {
    MemAlloc::with_policy().expect("an allocator can be built")
}

/// An allocation and a free by the policy.
fn hot_pair<P: ReusePolicy>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("hot-pair/{}", P::KIND));
    let allocator = allocator::<P>();
    for size in SIZES {
        let layout = layout(size);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let object = black_box(allocator.alloc(layout).expect("it is served"));
                // SAFETY: allocated above with this layout, freed once, and not shared.
                unsafe { allocator.free(object.cast(), layout) };
            });
        });
    }
    group.finish();
}

/// An allocation and a deferred free, under any policy.
fn free_rcu(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("free_rcu");
    let allocator = allocator::<Immediate>();
    for size in SIZES {
        let layout = layout(size);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let object = black_box(allocator.alloc(layout).expect("it is served"));
                // SAFETY: allocated above with this layout, freed once, and not shared.
                unsafe { allocator.free_rcu(object.cast(), layout) };
            });
        });
    }
    group.finish();
}

/// Returns a domain for every kind of barrier that this system supports, with its name.
fn domains() -> impl Iterator<Item = (String, Domain)> {
    BarrierKind::ALL.iter().filter_map(|&barrier| {
        Some((barrier.to_string(), Domain::builder().barrier_kind(barrier).build().ok()?))
    })
}

/// Enters and leaves a read section of either flavour, and one section in each of two domains.
fn pin(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pin");
    for ((barrier, domain), (_, other)) in domains().zip(domains()) {
        group.bench_function(BenchmarkId::new("rcu", &barrier), |bencher| {
            bencher.iter(|| drop(domain.pin()));
        });
        group.bench_function(BenchmarkId::new("trace", &barrier), |bencher| {
            bencher.iter(|| drop(domain.pin_trace()));
        });
        group.bench_function(BenchmarkId::new("rcu-in-two-domains", &barrier), |bencher| {
            bencher.iter(|| {
                drop(domain.pin());
                drop(other.pin());
            });
        });
    }
    group.finish();
}

/// Gets a cookie, and polls whether its grace period has passed.
fn polling(criterion: &mut Criterion) {
    let domain = Domain::new();
    criterion.bench_function("start_poll", |bencher| bencher.iter(|| domain.start_poll()));
    let cookie = domain.start_poll();
    criterion.bench_function("poll", |bencher| bencher.iter(|| domain.poll(black_box(cookie))));
}

/// Waits for a grace period without readers.
fn synchronize(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("synchronize");
    for (barrier, domain) in domains() {
        group.bench_function(barrier, |bencher| bencher.iter(|| domain.synchronize()));
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .configure_from_args();
    hot_pair::<Immediate>(&mut criterion);
    hot_pair::<AfterRcuGp>(&mut criterion);
    free_rcu(&mut criterion);
    pin(&mut criterion);
    polling(&mut criterion);
    synchronize(&mut criterion);
    criterion.final_summary();
}
