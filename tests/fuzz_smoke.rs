//! The fuzz targets on a stable compiler, for a moment: the seeds, and mutations of them from a fixed beginning.
//!
//! `PGWEIR_FUZZ_ROUNDS=1000000 cargo test --release --test fuzz_smoke` takes longer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, dead_code, reason = "it is a library of its own too")]
mod targets;

use std::path::Path;

/// Mutations of each target; a configuration takes files to be read.
const ROUNDS: usize = 20_000;
const ROUNDS_WITH_FILES: usize = 1_000;

#[test]
fn seeds_and_their_mutations() {
    for (name, target) in targets::TARGETS {
        let seeds = seeds(name);
        for seed in &seeds {
            target(seed);
        }
        let mut mutator = Mutator(0x5eed);
        for _ in 0..rounds(name) {
            let input = mutator.input(&seeds);
            // Said before it is known whether it passes, and shown only when it does not.
            let shown = input.escape_ascii();
            let result = std::panic::catch_unwind(|| target(&input));
            assert!(result.is_ok(), "{name} does not hold for b\"{shown}\"");
        }
    }
}

#[test]
fn every_target_is_one_of_cargo_fuzz() {
    let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for (name, _) in targets::TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(folder().join(format!("fuzz_targets/{name}.rs")).exists(), "{name}");
    }
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

fn rounds(name: &str) -> usize {
    let usual = if name == "config_text" { ROUNDS_WITH_FILES } else { ROUNDS };
    std::env::var("PGWEIR_FUZZ_ROUNDS").map_or(usual, |rounds| rounds.parse().unwrap())
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(folder().join("corpus-seed").join(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Makes inputs; the same ones in each run.
struct Mutator(u64);

impl Mutator {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        const TELLING: [u8; 16] = *b"\0\x01\x03\x04\x05\x7f\x80\xff\"'=;[]\n ";
        let any = self.next().to_le_bytes()[0];
        if any & 1 == 0 { TELLING[usize::from(any >> 4)] } else { any }
    }

    fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        if self.below(8) == 0 {
            let length = self.below(80);
            return (0..length).map(|_| self.byte()).collect();
        }
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            self.mutate(&mut input, seeds);
        }
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = (at + self.below(16)).min(input.len());
        match self.below(5) {
            0 => drop(input.drain(at..end)),
            1 => input.insert(at, self.byte()),
            2 => {
                let copy = input[at..end].to_vec();
                input.splice(at..at, copy).for_each(drop);
            }
            3 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                input.splice(at..end, other[from..].iter().copied().take(24)).for_each(drop);
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = self.byte();
                }
            }
        }
    }
}
