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
        .file("c10d/shim.cpp")
        .compile("pcrm_c10d");
}
