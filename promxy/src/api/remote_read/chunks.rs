//! Series in frames, as streamed answers have them.

use crate::{
    remote::{
        chunks::pack,
        messages::{Chunk, ChunkedReadResponse, ChunkedSeries, Label},
    },
    series::{Native, Samples},
};

/// How many bytes the chunks of a frame have, more or less. Prometheus' limit is as large.
const FRAME: usize = 1 << 20;

/// Makes the frames of a series.
pub(super) fn frames(
    labels: &[Label],
    samples: &Samples<Native>,
    query_index: i64,
) -> Vec<ChunkedReadResponse> {
    let mut frames: Vec<ChunkedReadResponse> = Vec::new();
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    let mut finish = |chunks: &mut Vec<Chunk>| {
        let series = ChunkedSeries {
            labels: labels.to_vec(),
            chunks: std::mem::take(chunks),
        };
        frames.push(ChunkedReadResponse {
            chunked_series: vec![series],
            query_index,
        });
    };
    for chunk in pack(samples) {
        bytes += chunk.data.len();
        chunks.push(chunk);
        if bytes >= FRAME {
            finish(&mut chunks);
            bytes = 0;
        }
    }
    if !chunks.is_empty() {
        finish(&mut chunks);
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::xor;

    #[test]
    fn a_long_series_is_cut_into_chunks() {
        let samples = Samples {
            floats: (0..300).map(|i| (i * 1000, i as f64)).collect(),
            histograms: Vec::new(),
        };
        let frames = frames(&[], &samples, 3);
        assert_eq!(frames.len(), 1);
        let chunks = &frames[0].chunked_series[0].chunks;
        let lengths: Vec<_> = chunks
            .iter()
            .map(|chunk| xor::read(&chunk.data).unwrap().len())
            .collect();
        assert_eq!(lengths, [120, 120, 60]);
        assert_eq!(chunks[2].min_time_ms, 240_000);
        assert_eq!(chunks[2].max_time_ms, 299_000);
    }
}
