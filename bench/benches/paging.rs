//! The page-table walk and reads of scattered memory, one by one. `cargo xtask bench` prints them as
//! one table of ratios.

use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vmie_bench::Bench;

fn paging(c: &mut Criterion) {
    let mut bench = Bench::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench"));
    bench.verify();

    let mut group = c.benchmark_group("walk");
    group.throughput(Throughput::Elements(bench.pages()));
    group.bench_function("vmie regions", |b| b.iter(|| bench.walk_regions()));
    group.bench_function("vmie extents", |b| b.iter(|| bench.walk_extents()));
    group.bench_function("memflow page map", |b| b.iter(|| bench.walk_peer()));
    group.finish();

    let mut group = c.benchmark_group("random 8 bytes");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("vmie", |b| b.iter(|| bench.random_reads(1000)));
    group.bench_function("memflow", |b| b.iter(|| bench.random_reads_peer(1000)));
    group.finish();

    let mut group = c.benchmark_group("sequential");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(bench.pages() * 4096));
    for piece in [4 << 10, 1 << 20] {
        group.bench_function(BenchmarkId::new("vmie", piece), |b| {
            b.iter(|| bench.sequential(piece));
        });
        group.bench_function(BenchmarkId::new("gather", piece), |b| {
            b.iter(|| bench.gather(piece));
        });
        group.bench_function(BenchmarkId::new("memcpy", piece), |b| {
            b.iter(|| bench.memcpy(piece));
        });
        group.bench_function(BenchmarkId::new("memflow", piece), |b| {
            b.iter(|| bench.sequential_peer(piece));
        });
    }
    group.finish();
}

criterion_group!(benches, paging);
criterion_main!(benches);
