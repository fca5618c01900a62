//! Elements between the host and a device.

use half::bf16;
use pcrm_core::{DType, HostData, HostTensor, Result, Tensor};
use tch::{Device, Kind, TchError, Tensor as Torch};

use super::{TchTensor, shape, sizes};
use crate::failed;

/// Copies a tensor of the host to a device. The host does not wait for the GPU's work: CUDA copies the elements
/// aside before the call returns.
pub(crate) fn to_device(host: &Torch, device: Device) -> Result<Torch, TchError> {
    host.f_to_device_(device, host.kind(), true, false)
}

/// Uploads these elements as this type.
pub(crate) fn upload(host: &HostTensor, dtype: DType, device: Device) -> Result<Tensor> {
    let kind = match dtype {
        DType::F32 => Kind::Float,
        DType::BF16 => Kind::BFloat16,
        DType::U32 => Kind::Int64, // the type of libtorch's indices
        DType::U8 => Kind::Uint8,
    };
    let flat = match host.data() {
        HostData::F32(values) => Torch::f_from_slice(values),
        // tch maps half's bf16 to another kind.
        HostData::BF16(_) => Torch::f_from_slice(&host.to_f32()),
        HostData::U8(codes) => Torch::f_from_slice(codes),
        HostData::U32(ids) => Torch::f_from_slice(&ids.iter().map(|id| i64::from(*id)).collect::<Vec<i64>>()),
    };
    let value =
        flat.and_then(|flat| to_device(&flat.f_reshape(sizes(host.shape()))?, device)?.f_to_kind(kind));
    Ok(Tensor::new(TchTensor::constant(value.map_err(failed("upload"))?)))
}

/// Copies the elements to the host; `dtype` is the core's type of them.
pub(super) fn read(value: &Torch, dtype: DType) -> Result<HostTensor> {
    let size = value.numel();
    let flat = |kind: Kind| value.f_to_kind(kind)?.f_to_device(Device::Cpu)?.f_contiguous();
    let floats = || -> Result<Vec<f32>, TchError> {
        let mut values = vec![0f32; size];
        flat(Kind::Float)?.f_copy_data(&mut values, size)?;
        Ok(values)
    };
    let data = match dtype {
        DType::U32 => {
            let mut ids = vec![0i64; size];
            let read = flat(Kind::Int64).and_then(|flat| flat.f_copy_data(&mut ids, size));
            read.map_err(failed("read"))?;
            HostData::U32(ids.into_iter().map(|id| id as u32).collect())
        }
        DType::U8 => {
            let mut codes = vec![0u8; size];
            let read = flat(Kind::Uint8).and_then(|flat| flat.f_copy_data(&mut codes, size));
            read.map_err(failed("read"))?;
            HostData::U8(codes)
        }
        DType::F32 => HostData::F32(floats().map_err(failed("read"))?),
        DType::BF16 => {
            HostData::BF16(floats().map_err(failed("read"))?.into_iter().map(bf16::from_f32).collect())
        }
    };
    HostTensor::new(shape(value), data)
}
