// torch's wheel does not include Gloo's headers. These headers declare only the names that c10d's
// ProcessGroupGloo.hpp mentions. No object of these types is created or read here: Gloo's code is in
// libtorch.
#pragma once
