//! What a line costs on its way into a batch and into a gzip stream. Quote ratios from one run; machines are noisy.

use std::io::Write as _;

use divan::{Bencher, counter::ItemsCount};
use flate2::{Compression, write::GzEncoder};
use polymur_proxy::{
    batch::{Filling, MAX_LINES},
    gzip::Compressor,
    lines::{Check, LineReader},
    pickle,
};

fn main() {
    print_sizes();
    divan::main();
}

/// Lines as a collector sends them, with values as irregular as real ones.
fn lines(count: usize) -> Vec<u8> {
    const PATHS: [&str; 5] = [
        "cpu.user",
        "mem.used_bytes",
        "disk.sda.read_ops",
        "net.eth0.rx_packets",
        "jvm.gc.pause_ms",
    ];
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::new();
    for i in 0..count as u64 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let line = format!(
            "servers.dc{}.host{:05}.{}.core0 {}.{:04} {}\n",
            x % 3,
            (i / 5) % 20_000,
            PATHS[(i % 5) as usize],
            x % 100_000,
            (x >> 20) % 10_000,
            1_700_000_000 + i / 20_000 * 10
        );
        out.extend_from_slice(line.as_bytes());
    }
    out
}

#[expect(
    clippy::print_stdout,
    reason = "the sizes are half of what this bench is for"
)]
fn print_sizes() {
    let data = lines(MAX_LINES);
    let mut zlib = GzEncoder::new(Vec::new(), Compression::new(6));
    zlib.write_all(&data).expect("memory takes all");
    let zlib = zlib.finish().expect("memory takes all").len();
    println!(
        "{} bytes; {zlib} as gzip level 6 of zlib, and by our levels:",
        data.len()
    );
    for level in 1..=6 {
        println!(
            "  {level}: {}",
            Compressor::new(level).compress(&data).len()
        );
    }
}

/// Bytes to batches of 5000 lines.
#[divan::bench(args = [Check::Nothing, Check::Graphite])]
fn split(bencher: Bencher<'_, '_>, check: Check) {
    let data = lines(100_000);
    bencher.counter(ItemsCount::new(100_000_usize)).bench(|| {
        let (mut reader, mut filling) = (LineReader::new(check), Filling::default());
        for chunk in data.chunks(256 * 1024) {
            divan::black_box(reader.feed(chunk, &mut filling));
            filling.full.clear();
        }
    });
}

/// A batch to a gzip stream.
#[divan::bench(args = [1, 2, 3, 4, 5, 6])]
fn compress(bencher: Bencher<'_, '_>, level: i32) {
    let data = lines(MAX_LINES);
    let mut compressor = Compressor::new(level);
    bencher
        .counter(ItemsCount::new(MAX_LINES))
        .bench_local(|| compressor.compress(&data));
}

/// A frame of 500 datapoints, as carbon's relays send them.
#[divan::bench]
fn read_pickle(bencher: Bencher<'_, '_>) {
    let mut frame = b"\x80\x02](".to_vec();
    for number in 0..500_u16 {
        frame.extend_from_slice(b"X\x0f\0\0\0servers.a.b.cpuJ\x00/hYM");
        frame.extend_from_slice(&number.to_le_bytes());
        frame.extend_from_slice(b"\x86\x86");
    }
    frame.extend_from_slice(b"e.");
    bencher.counter(ItemsCount::new(500_usize)).bench(|| {
        pickle::read(&frame, |line| {
            divan::black_box(line);
        })
    });
}
