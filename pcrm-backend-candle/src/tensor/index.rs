//! Elements and slices at given indices, and their gradients.

use candle_core as ct;
use pcrm_core::{Error, Result, Tensor};

use super::{CandleTensor, other, record};
use crate::NAME;

/// Gathers along `dim` the elements at `index`.
pub(super) fn gather(of: &CandleTensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    let err = || Error::backend(NAME, "gather");
    let index = other("gather", index)?.value.contiguous().map_err(err())?;
    let x = of.value.contiguous().map_err(err())?;
    let value = x.gather(&index, dim).map_err(err())?;
    Ok(Tensor::new(record(value, &[of], move |gradient, _| {
        let scattered = || -> ct::Result<ct::Tensor> {
            let sums = x.zeros_like()?.to_dtype(ct::DType::F32)?;
            let gradient = gradient.to_dtype(ct::DType::F32)?.contiguous()?;
            sums.scatter_add(&index, &gradient, dim)?.to_dtype(x.dtype())
        };
        Ok(vec![Some(scattered().map_err(err())?)])
    })))
}

/// Selects along `dim` the slices at `index`.
pub(super) fn index_select(of: &CandleTensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    let err = || Error::backend(NAME, "index_select");
    let index = other("index_select", index)?;
    #[cfg(feature = "cuda")]
    let host = index.host.clone();
    let index = index.value.contiguous().map_err(err())?;
    let x = of.value.contiguous().map_err(err())?;
    let value = x.index_select(&index, dim).map_err(err())?;
    Ok(Tensor::new(record(value, &[of], move |gradient, _| {
        #[cfg(feature = "cuda")]
        if let (0, Some(host)) = (dim, &host)
            && let Some(sums) = crate::cuda::recorded::row_sums(gradient, host, x.dims()[0]).map_err(err())?
        {
            return Ok(vec![Some(sums)]);
        }
        let added = || -> ct::Result<ct::Tensor> {
            let sums = x.zeros_like()?.to_dtype(ct::DType::F32)?;
            let gradient = gradient.to_dtype(ct::DType::F32)?.contiguous()?;
            sums.index_add(&index, &gradient, dim)?.to_dtype(x.dtype())
        };
        Ok(vec![Some(added().map_err(err())?)])
    })))
}
