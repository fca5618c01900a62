#![no_main]

const TOKENIZER: &[u8] = include_bytes!("../../tests/golden/text/plain/tokenizer.json");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pcrm_fuzz::entries::tokenizer_config(TOKENIZER, bytes));
