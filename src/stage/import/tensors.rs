//! The tensors of a safetensors file, and the files that people have in its place.

use crate::engine::stage::Hinted;
use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

/// A tensor as it is in the file.
pub(super) struct Tensor<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: Dtype,
    /// Little-endian, row by row.
    data: &'a [u8],
}

/// The names of the types that can be read.
const READABLE: &str = "f16, bf16, f32 or f64";

/// Two lines of Python that write a safetensors file.
const SAVE: &str = "in Python: `from safetensors.torch import save_file` and \
                    `save_file(model.state_dict(), \"model.safetensors\")`";

/// The tensors in the file `file`, sorted by name.
pub(super) fn read<'a>(file: &str, bytes: &'a [u8]) -> Result<Vec<Tensor<'a>>, Hinted> {
    if let Some(format) = other_format(bytes) {
        return Err(Hinted::new(format!("`{file}` is {format}, not a safetensors file"), SAVE));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        let cause = format!("`{file}` is a pointer of Git LFS, not the file itself");
        return Err(Hinted::new(cause, "type `git lfs pull`"));
    }
    let parsed = SafeTensors::deserialize(bytes);
    let parsed = parsed.map_err(|error| {
        let error = crate::stage::import::short(&error.to_string());
        Hinted::new(format!("`{file}` is not a safetensors file: {error}"), SAVE)
    })?;
    let mut tensors: Vec<Tensor> = parsed
        .iter()
        .map(|(name, view)| Tensor {
            name: name.to_owned(),
            shape: view.shape().to_vec(),
            dtype: view.dtype(),
            data: view.data(),
        })
        .collect();
    tensors.sort_by(|a, b| crate::stage::names::natural(&a.name, &b.name));
    Ok(tensors)
}

/// What a file of another format is, by its first bytes.
fn other_format(bytes: &[u8]) -> Option<&'static str> {
    let has = |text: &[u8]| {
        let start = &bytes[..bytes.len().min(4096)];
        start.windows(text.len()).any(|window| window == text)
    };
    if bytes.starts_with(b"\x89HDF\r\n") {
        Some("an HDF5 file, as Keras writes it")
    } else if bytes.starts_with(b"PK\x03\x04") {
        Some(if has(b"data.pkl") {
            "a file of `torch.save`, which contains a pickle"
        } else if has(b"model.weights.h5") || has(b"config.json") {
            "a model of Keras"
        } else if has(b".npy") {
            "an archive of NumPy arrays"
        } else {
            "a zip archive"
        })
    } else if matches!(bytes, [0x80, 2..=5, ..]) {
        Some("a pickle")
    } else {
        None
    }
}

impl Tensor<'_> {
    /// Its name and shape in messages, as in `` `fc1.weight` [64, 784] ``.
    pub(super) fn title(&self) -> String {
        format!("`{}` {:?}", self.name, self.shape)
    }

    /// The name of its type.
    pub(super) fn type_name(&self) -> String {
        format!("{:?}", self.dtype).to_lowercase()
    }

    /// Refuses types other than floats of 16, 32 and 64 bits.
    pub(super) fn check_type(&self) -> Result<(), Hinted> {
        if matches!(self.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64) {
            return Ok(());
        }
        let (title, found) = (self.title(), self.type_name());
        let cause = format!("{title} is of the type {found}, not {READABLE}");
        Err(Hinted::new(cause, "save the weights that are not quantised, such as `model.float()`"))
    }

    /// Its numbers, rounded to f32.
    ///
    /// # Errors
    /// If one of them is not finite, also if only the f32 is not.
    pub(super) fn values(&self) -> Result<Vec<f32>, Hinted> {
        self.check_type()?;
        let data = self.data;
        // (the number as it is in the file, as f32)
        let numbers: Vec<(f64, f32)> = match self.dtype {
            Dtype::F16 => each(data, |x| f16::from_le_bytes(x).to_f32()),
            Dtype::BF16 => each(data, |x| bf16::from_le_bytes(x).to_f32()),
            Dtype::F32 => each(data, f32::from_le_bytes),
            _ => {
                let (numbers, _) = data.as_chunks::<8>();
                let numbers = numbers.iter().map(|x| f64::from_le_bytes(*x));
                numbers.map(|x| (x, x as f32)).collect()
            }
        };
        let Some(at) = numbers.iter().position(|(_, x)| !x.is_finite()) else {
            return Ok(numbers.into_iter().map(|(_, x)| x).collect());
        };
        let (name, position, found) = (&self.name, self.position(at), numbers[at].0);
        let cause = match found.is_finite() {
            true => format!("`{name}[{position}]` is {found:e}, out of the range of f32"),
            false => format!("`{name}[{position}]` is {found}, not a finite number"),
        };
        Err(Hinted::new(cause, "a net with such a weight has no loss; save an earlier state of it"))
    }

    /// The indices of element `at`, as in `3, 5`.
    fn position(&self, mut at: usize) -> String {
        let mut indices = Vec::new();
        for &n in self.shape.iter().rev() {
            indices.push((at % n.max(1)).to_string());
            at /= n.max(1);
        }
        indices.reverse();
        indices.join(", ")
    }
}

fn each<const N: usize>(data: &[u8], read: fn([u8; N]) -> f32) -> Vec<(f64, f32)> {
    let (numbers, _) = data.as_chunks::<N>();
    numbers.iter().map(|x| read(*x)).map(|x| (f64::from(x), x)).collect()
}
