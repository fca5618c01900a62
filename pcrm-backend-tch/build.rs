//! Passes the location of libtorch to binaries for their rpath, and compiles the c10d shim with the feature
//! `distributed`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    println!("cargo::metadata=libtorch={folder}");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    #[cfg(feature = "distributed")]
    shim(std::path::Path::new(&folder));
}

#[cfg(feature = "distributed")]
fn shim(libraries: &std::path::Path) {
    println!("cargo::rerun-if-changed=c10d");
    let include = libraries.with_file_name("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .define("USE_C10D_GLOO", None)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include("c10d")
        .include(include.join("torch/csrc/api/include"))
        .include(&include)
        .files(["c10d/shim.cpp", "c10d/nccl.cpp"])
        .compile("pcrm_c10d");
    // dlsym, where it is not a part of libc.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-lib=dl");
    }
}
