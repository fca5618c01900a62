//! The bytes of vectors in pinned host memory.

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::{HostData, HostTensor};
use crate::kernels::Vectors;

const OP: &str = "offload";

/// Returns the bytes of an element of an offloaded vector.
///
/// # Errors
/// Fails for types other than f32 and u8.
pub fn element_bytes(dtype: DType) -> Result<usize> {
    match dtype {
        DType::F32 => Ok(4),
        DType::U8 => Ok(1),
        found => Err(Error::DType { op: OP, found, expected: "f32 or u8" }),
    }
}

/// Returns vectors that have room for those of any part.
pub fn longest(parts: &[Vectors]) -> Vectors {
    let mut longest = Vectors::new();
    for part in parts {
        longest.resize_with(part.len().max(longest.len()), || (DType::U8, 0));
        for (most, (dtype, length)) in longest.iter_mut().zip(part) {
            *most = (*dtype, most.1.max(*length));
        }
    }
    longest
}

/// Copies a vector, f32 or u8, from its bytes.
pub fn unpacked(bytes: &[u8], dtype: DType) -> HostTensor {
    match dtype {
        DType::U8 => HostTensor::bytes(bytes.to_vec()),
        _ => {
            let (numbers, _) = bytes.as_chunks::<4>();
            HostTensor::vector(numbers.iter().map(|number| f32::from_ne_bytes(*number)).collect())
        }
    }
}

/// Copies a vector of type `dtype` to its bytes.
///
/// # Errors
/// Fails if the vector has another type or length.
pub fn pack(host: &HostTensor, dtype: DType, bytes: &mut [u8]) -> Result<()> {
    let elements = bytes.len() / element_bytes(dtype)?;
    match host.data() {
        HostData::U8(codes) if dtype == DType::U8 && codes.len() == elements => {
            bytes.copy_from_slice(codes);
        }
        HostData::F32(numbers) if dtype == DType::F32 && numbers.len() == elements => {
            let (own, _) = bytes.as_chunks_mut::<4>();
            own.iter_mut().zip(numbers).for_each(|(own, number)| *own = number.to_ne_bytes());
        }
        _ => return Err(Error::shape(OP, "another vector is stored", &[&[elements], host.shape()])),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: vectors keep their bits, and one of another type or length is refused and changes nothing.
    #[test]
    fn vectors_come_back() {
        let numbers = HostTensor::vector(vec![1.5, -0.0, f32::MIN_POSITIVE]);
        let codes = HostTensor::bytes(vec![0, 127, 255]);
        for (host, dtype) in [(&numbers, DType::F32), (&codes, DType::U8)] {
            let mut bytes = vec![7; 3 * element_bytes(dtype).unwrap()];
            pack(host, dtype, &mut bytes).unwrap();
            assert_eq!(unpacked(&bytes, dtype).data(), host.data());
            let kept = bytes.clone();
            for other in [&HostTensor::vector(vec![1.0; 4]), &HostTensor::bytes(vec![1; 4])] {
                assert!(pack(other, dtype, &mut bytes).is_err());
            }
            let other_type = if dtype == DType::U8 { &numbers } else { &codes };
            assert!(pack(other_type, dtype, &mut bytes).is_err());
            assert_eq!(bytes, kept);
        }
    }

    /// Protects: a slot has room for every part; the last may be shorter, and some have fewer vectors.
    #[test]
    fn a_slot_fits_all_parts() {
        let parts = [vec![(DType::F32, 2)], vec![(DType::F32, 5), (DType::U8, 3)], vec![(DType::F32, 1)]];
        assert_eq!(longest(&parts), [(DType::F32, 5), (DType::U8, 3)]);
        assert_eq!(longest(&[]), []);
    }
}
