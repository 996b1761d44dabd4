//! Makes the bindings from the headers of other projects, for the features that ask for them. Without features it does nothing, so that a plain
//! build of the workspace needs no foreign sources.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "fio")]
    fio::bind();
}

#[cfg(feature = "fio")]
mod fio {
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    /// The folder of fio's sources, configured.
    const SOURCE: &str = "STRONGROOM_FIO_SOURCE";

    pub(super) fn bind() {
        println!("cargo::rerun-if-env-changed={SOURCE}");
        let source = env::var_os(SOURCE).map(PathBuf::from).unwrap_or_else(|| {
            panic!(
                "{SOURCE} does not say where fio's sources are; `scripts/fio-engine` fetches them and builds the engine"
            )
        });
        let config = source.join("config-host.h");
        if !config.exists() {
            panic!("{} is missing: run ./configure in {SOURCE}, or let `scripts/fio-engine` do it", config.display());
        }
        println!("cargo::rerun-if-changed={}", config.display());
        let path = |path: &Path| path.to_str().expect("the path of fio's sources is text").to_owned();
        let bindings = bindgen::Builder::default()
            .header(path(&source.join("fio.h")))
            .header(path(&source.join("optgroup.h")))
            .clang_args(["-std=gnu99", "-D_GNU_SOURCE", "-include", &path(&config), "-I", &path(&source)])
            .allowlist_type(
                "thread_data|thread_options|io_u|io_ddir|fio_file|fio_filetype|fio_file_flags|fio_option|fio_opt_type",
            )
            .allowlist_type("ioengine_ops|fio_ioengine_flags|fio_q_status|opt_category|opt_category_group")
            .allowlist_var("FIO_IOOPS_VERSION|fio_version_string")
            .allowlist_function("log_err")
            // Statistics that no engine touches, with alignments that bindgen cannot express as fields.
            .opaque_type("thread_stat|thread_io_list|zone_split.*|fio_fp64")
            .prepend_enum_name(false)
            .derive_debug(false)
            .generate_comments(false)
            .layout_tests(true)
            .generate()
            .unwrap_or_else(|e| panic!("fio's headers in {} cannot be read: {e}", source.display()));
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
        bindings.write_to_file(out.join("fio.rs")).expect("the output folder can be written");
        println!("cargo::rustc-env=STRONGROOM_FIO_VERSION={}", version(&source));
    }

    /// The version of the sources, as fio prints it.
    fn version(source: &Path) -> String {
        let generator = source.join("FIO-VERSION-GEN");
        let text = fs::read_to_string(&generator).unwrap_or_else(|e| panic!("{}: {e}", generator.display()));
        let line = text.lines().find_map(|line| line.strip_prefix("DEF_VER="));
        line.unwrap_or_else(|| panic!("{} names no version", generator.display())).to_owned()
    }
}
