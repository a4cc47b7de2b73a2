//! What this processor can do, as far as a compiler may make use of it: part of a cache key, so that code
//! is never run on a processor that lacks an instruction, such as a disk's image moved to another machine.

/// Architecture and features, always in the same order: `x86_64 avx avx2 …`.
pub(super) fn features() -> String {
    let mut text = std::env::consts::ARCH.to_owned();
    for name in detected() {
        text.push(' ');
        text.push_str(name);
    }
    text
}

macro_rules! present {
    ($detect:ident: $($name:tt)*) => {
        [$(($name, std::arch::$detect!($name))),*].into_iter().filter(|(_, present)| *present).map(|(name, _)| name)
    };
}

#[cfg(target_arch = "x86_64")]
fn detected() -> impl Iterator<Item = &'static str> {
    present!(is_x86_feature_detected:
        "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "cmpxchg16b" "lzcnt" "bmi1" "bmi2" "fma" "f16c" "aes" "pclmulqdq"
        "sha" "gfni" "vaes" "vpclmulqdq" "avx" "avx2" "avx512f" "avx512vl" "avx512dq" "avx512bw" "avx512cd"
        "avx512ifma" "avx512vbmi" "avx512vbmi2" "avx512vnni" "avx512bitalg" "avx512vpopcntdq")
}

#[cfg(target_arch = "aarch64")]
fn detected() -> impl Iterator<Item = &'static str> {
    present!(is_aarch64_feature_detected:
        "neon" "fp16" "lse" "lse2" "crc" "rdm" "dotprod" "i8mm" "bf16" "rcpc" "rcpc2" "paca" "pacg" "bti" "flagm"
        "fhm" "fcma" "jsconv" "aes" "sha2" "sha3" "sve" "sve2")
}

#[cfg(test)]
mod tests {
    #[test]
    fn features_are_stable_and_start_with_the_architecture() {
        let features = super::features();
        assert_eq!(features.split(' ').next(), Some(std::env::consts::ARCH));
        assert_eq!(features, super::features());
        assert!(
            features.contains(' '),
            "no feature at all was found: {features}"
        );
    }
}
