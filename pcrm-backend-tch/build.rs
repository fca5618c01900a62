//! Passes the location of libtorch to binaries, for their rpath.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::metadata=libtorch={folder}");
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
