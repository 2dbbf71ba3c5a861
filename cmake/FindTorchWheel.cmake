# Finds libtorch inside the `torch` wheel of SHARDWISE_PYTHON and defines Torch::torch.
#
# torch's own CMake package is left aside: it sets global flags, and with a CUDA wheel it insists on
# a CUDA toolkit. Headers are system headers. TorchWheel_CUDA tells whether the wheel has CUDA.

shardwise_find_python_package(_torch_folder torch)
find_path(TORCH_INCLUDE_DIR ATen/ATen.h HINTS ${_torch_folder}/include)
foreach(_name torch torch_cpu c10)
  find_library(TORCH_${_name}_LIBRARY ${_name} HINTS ${_torch_folder}/lib)
endforeach()
find_library(TORCH_torch_cuda_LIBRARY torch_cuda HINTS ${_torch_folder}/lib NO_DEFAULT_PATH)
find_library(TORCH_c10_cuda_LIBRARY c10_cuda HINTS ${_torch_folder}/lib NO_DEFAULT_PATH)
mark_as_advanced(TORCH_INCLUDE_DIR TORCH_torch_LIBRARY TORCH_torch_cpu_LIBRARY TORCH_c10_LIBRARY
                 TORCH_torch_cuda_LIBRARY TORCH_c10_cuda_LIBRARY)

if(EXISTS ${_torch_folder}/version.py)
  file(STRINGS ${_torch_folder}/version.py _line REGEX "^__version__ = ")
  string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" TorchWheel_VERSION "${_line}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  TorchWheel
  REQUIRED_VARS TORCH_torch_LIBRARY TORCH_torch_cpu_LIBRARY TORCH_c10_LIBRARY TORCH_INCLUDE_DIR
  VERSION_VAR TorchWheel_VERSION
  REASON_FAILURE_MESSAGE
    "run scripts/setup.sh, point SHARDWISE_PYTHON at a Python that has torch, or configure with -DSHARDWISE_RUNTIME=OFF")

if(TorchWheel_FOUND AND NOT TARGET Torch::torch)
  add_library(Torch::torch INTERFACE IMPORTED)
  target_include_directories(Torch::torch SYSTEM INTERFACE
                             ${TORCH_INCLUDE_DIR} ${TORCH_INCLUDE_DIR}/torch/csrc/api/include)
  target_link_libraries(Torch::torch INTERFACE ${TORCH_torch_cpu_LIBRARY} ${TORCH_c10_LIBRARY})
  # The wheel's headers bring their own {fmt}, which hides the system's and has no library.
  target_compile_definitions(Torch::torch INTERFACE FMT_HEADER_ONLY=1)
  if(TORCH_torch_cuda_LIBRARY)
    set(TorchWheel_CUDA ON)
    # Its kernels register themselves when it is loaded; no symbol of ours refers to it.
    target_link_libraries(
      Torch::torch INTERFACE -Wl,--no-as-needed ${TORCH_torch_cuda_LIBRARY}
                             ${TORCH_c10_cuda_LIBRARY} -Wl,--as-needed)
  endif()
endif()
