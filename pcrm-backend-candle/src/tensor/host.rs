//! Elements between the host and a device.

use candle_core as ct;
use pcrm_core::{DType, Error, HostData, HostTensor, Result, Tensor};

use super::CandleTensor;
use crate::NAME;

/// Uploads these elements as this type.
pub(crate) fn upload(host: &HostTensor, dtype: DType, device: &ct::Device) -> Result<Tensor> {
    let shape = host.shape();
    let value = match (dtype, host.data()) {
        (DType::U32, HostData::U32(ids)) => ct::Tensor::from_slice(ids, shape, device),
        (DType::U8, HostData::U8(codes)) => ct::Tensor::from_slice(codes, shape, device),
        (DType::BF16, HostData::BF16(values)) => ct::Tensor::from_slice(values, shape, device),
        (DType::F32, _) => ct::Tensor::from_vec(host.to_f32(), shape, device),
        (DType::BF16, HostData::F32(values)) => {
            ct::Tensor::from_slice(values, shape, device).and_then(|value| value.to_dtype(ct::DType::BF16))
        }
        (dtype, _) => {
            return Err(Error::Unsupported(format!(
                "{} elements cannot be uploaded as {dtype}",
                host.dtype()
            )));
        }
    };
    let mut tensor = CandleTensor::constant(value.map_err(Error::backend(NAME, "upload"))?);
    if let HostData::U32(indices) = host.data() {
        tensor.host = Some(indices.as_slice().into());
    }
    Ok(Tensor::new(tensor))
}

/// Copies the elements to the host.
pub(super) fn read(value: &ct::Tensor) -> Result<HostTensor> {
    let err = || Error::backend(NAME, "read");
    let flat = value.flatten_all().map_err(err())?;
    let data = match value.dtype() {
        ct::DType::U32 => HostData::U32(flat.to_vec1().map_err(err())?),
        ct::DType::U8 => HostData::U8(flat.to_vec1().map_err(err())?),
        ct::DType::BF16 => HostData::BF16(flat.to_vec1().map_err(err())?),
        _ => HostData::F32(flat.to_vec1().map_err(err())?),
    };
    HostTensor::new(value.dims(), data)
}
