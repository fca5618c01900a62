#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pcrm_fuzz::entries::constraint(bytes));
