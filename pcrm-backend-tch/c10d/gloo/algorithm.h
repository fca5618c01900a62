// Gloo's headers are not part of torch's wheel. These declare the names that c10d's ProcessGroupGloo.hpp mentions and
// nothing more: no object of these types is made or read here, libtorch holds Gloo's code.
#pragma once
