//! Variants of published chat templates that mark the assistant's text, as TRL uses them for training.
//!
//! The files are from TRL 1.16 (Apache License 2.0, `trl/chat_templates/*_training.jinja`). A variant applies
//! to exactly one template.

use xxhash_rust::xxh3::xxh3_128;

/// The hash of a published template and its variant.
const VARIANTS: [(u128, &str); 6] = [
    (0x8b30bb763d138e692c2e86beabccd2a4, include_str!("training/gemma.jinja")),
    (0x24b726d4a5f4731b6d23022eb1773ed6, include_str!("training/gemma3.jinja")),
    (0x09facc0e4aa943189799ad6e2dea0594, include_str!("training/llama3.jinja")),
    (0xc63bde148c12b98b639547fe4d33fa67, include_str!("training/qwen2_5.jinja")),
    (0x0fab82ce8f4d5175c9e0155c80737cf2, include_str!("training/qwen3.jinja")),
    (0xcc9ddd5a40bc1c0c8fb5d937b1e8f5d0, include_str!("training/qwen3_instruct_2507.jinja")),
];

/// Returns the marked variant of a template, if one is known.
pub(super) fn variant(source: &str) -> Option<&'static str> {
    let hash = xxh3_128(source.as_bytes());
    VARIANTS.iter().find(|(known, _)| *known == hash).map(|(_, variant)| *variant)
}
