//! Randomness from a seed that is printed.

use std::time::Duration;

/// splitmix64: the same seed gives the same rolls.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// The dice of one part of a run: parts do not take rolls from each other.
    pub fn new(seed: u64, part: u64) -> Self {
        let mut dice = Dice(seed ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93));
        dice.roll(2);
        dice
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll(high - low + 1)
    }

    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len() as u64) as usize]
    }

    pub fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = self.roll(most + 1);
        (0..length).map(|_| self.roll(256) as u8).collect()
    }
}

/// The seed: what `CHAOS_SEED` says, or a new one.
pub fn seed() -> u64 {
    match std::env::var("CHAOS_SEED") {
        Ok(text) if !text.is_empty() => text.parse().expect("CHAOS_SEED is a whole number"),
        _ => uuid::Uuid::new_v4().as_u128() as u64 >> 1,
    }
}
