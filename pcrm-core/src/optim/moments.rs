//! The two f32 moments of every parameter, on the device or in host memory.

use super::StatePlace;
use super::offloaded::OffloadedMoments;
use crate::dtype::DType;
use crate::error::Result;
use crate::host::{HostData, HostTensor};
use crate::tensor::Tensor;

/// The names of the moments, in their order.
pub(super) const NAMES: [&str; 2] = ["mean", "variance"];

/// The moments of parameters that are numbered from 0.
#[derive(Debug)]
pub(super) struct Moments {
    shapes: Vec<Vec<usize>>,
    held: Place,
}

#[derive(Debug)]
enum Place {
    Device(Vec<[Tensor; 2]>),
    Host(OffloadedMoments),
}

impl Moments {
    /// Creates moments of zeros for parameters of these shapes, on the device of `like` or in host memory.
    ///
    /// # Errors
    /// Fails if there is too little memory.
    pub fn zeros(like: &Tensor, shapes: Vec<Vec<usize>>, place: StatePlace) -> Result<Self> {
        let held = match place {
            StatePlace::Device => {
                let zeros = |shape: &Vec<usize>| -> Result<Tensor> {
                    like.constant(&HostTensor::f32(shape.clone(), vec![0.0; shape.iter().product()])?)
                };
                let pair = |shape| Ok([zeros(shape)?, zeros(shape)?]);
                Place::Device(shapes.iter().map(pair).collect::<Result<_>>()?)
            }
            StatePlace::Host => {
                let sizes = shapes.iter().map(|shape| shape.iter().product());
                Place::Host(OffloadedMoments::new(like, sizes, |size| vec![(DType::F32, size); 2])?)
            }
        };
        Ok(Self { shapes, held })
    }

    /// Returns the moments that are on the device, by number.
    pub fn on_device(&self) -> Option<&[[Tensor; 2]]> {
        match &self.held {
            Place::Device(all) => Some(all),
            Place::Host(_) => None,
        }
    }

    /// Returns the moments that are in host memory.
    pub fn on_host(&mut self) -> Option<&mut OffloadedMoments> {
        match &mut self.held {
            Place::Device(_) => None,
            Place::Host(moments) => Some(moments),
        }
    }

    /// Returns a moment of a parameter on the device of `like`.
    pub fn tensor(&self, at: usize, moment: usize, like: &Tensor) -> Result<Tensor> {
        match &self.held {
            Place::Device(all) => Ok(all[at][moment].clone()),
            Place::Host(_) => like.constant(&self.read(at, moment)?),
        }
    }

    /// Overwrites a moment of a parameter with a tensor on the device, of the same shape.
    pub fn assign(&mut self, at: usize, moment: usize, value: &Tensor) -> Result<()> {
        match &mut self.held {
            Place::Device(all) => all[at][moment].assign(value),
            Place::Host(moments) => moments.put(at, moment, value.read()?.data()),
        }
    }

    /// Returns a moment of a parameter.
    pub fn read(&self, at: usize, moment: usize) -> Result<HostTensor> {
        match &self.held {
            Place::Device(all) => all[at][moment].read(),
            Place::Host(moments) => HostTensor::f32(self.shapes[at].clone(), moments.floats(at, moment)?),
        }
    }

    /// Overwrites a moment of a parameter, of the same shape.
    pub fn write(&mut self, at: usize, moment: usize, host: &HostTensor) -> Result<()> {
        match &mut self.held {
            Place::Device(all) => {
                let tensor = &all[at][moment];
                tensor.assign(&tensor.constant(host)?)
            }
            Place::Host(moments) => moments.put(at, moment, &HostData::F32(host.to_f32())),
        }
    }
}
