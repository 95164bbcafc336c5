//! The images of the benchmarks: MNIST from `REPRO_DATA`, or generated digits.

use anyhow::{Context as _, Result};
use repro::kernel::sparse::Sparse;
use repro::study::data::digits::digits;
use repro::study::data::published::{MNIST as PUBLISHED, assemble, gunzip};
use repro::study::data::{Examples, PIXELS};
use repro::study::net::{CLASSES, INPUTS, Init, Net, Shape};
use repro::study::rng;
use std::path::{Path, PathBuf};

/// 60,000 images to train on and 10,000 to test on.
pub(crate) struct Data {
    pub(crate) train: Examples,
    pub(crate) test: Examples,
    /// Their description.
    pub(crate) source: &'static str,
}

impl Data {
    /// From the folder `REPRO_DATA`, compressed or not, or else generated.
    pub(crate) fn load() -> Result<Data> {
        let Some(folder) =
            std::env::var_os("REPRO_DATA").filter(|folder| !folder.is_empty()).map(PathBuf::from)
        else {
            let (train, test) = digits("0", 60_000, 10_000);
            return Ok(Data { train, test, source: "generated digits" });
        };
        let mut files: [Vec<u8>; 4] = Default::default();
        for (file, bytes) in PUBLISHED.files.iter().zip(&mut files) {
            *bytes = read(&folder.join(file.name)).or_else(|_| {
                let packed = read(&folder.join(format!("{}.gz", file.name)))?;
                Ok::<_, anyhow::Error>(gunzip(file.name, &packed, file.bytes)?)
            })?;
        }
        let is_mnist =
            PUBLISHED.files.iter().zip(&files).all(|(file, bytes)| file.verify(bytes).is_ok());
        let (train, test) = assemble(&files)?;
        Ok(Data {
            train,
            test,
            source: if is_mnist { MNIST } else { "other images from REPRO_DATA" },
        })
    }

    pub(crate) fn is_mnist(&self) -> bool {
        self.source == MNIST
    }

    /// Mean number of non-zero pixels of a training image.
    pub(crate) fn non_zero_pixels(&self) -> f64 {
        let non_zeros = self.train.pixels.iter().filter(|&&pixel| pixel != 0).count();
        non_zeros as f64 / self.train.len() as f64
    }
}

const MNIST: &str = "MNIST";

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

pub(crate) fn sparse(examples: &Examples) -> Sparse {
    Sparse::from_pixels(&examples.pixels, PIXELS)
}

/// A net as initialised for training.
pub(crate) fn net(hidden: u32, label: &str) -> Result<Net> {
    let widths = hidden.to_string().parse().map_err(anyhow::Error::msg)?;
    let shape = Shape { inputs: INPUTS, widths, classes: CLASSES, biases: false };
    Ok(Init::Uniform.draw(shape, "0", label))
}

/// Pseudo-random numbers from -1 to 1.
pub(crate) fn noise(n: usize, label: &str) -> Vec<f32> {
    let mut rng = rng::stream("0", label);
    (0..n).map(|_| 2.0 * rng::uniform(&mut rng) as f32 - 1.0).collect()
}
