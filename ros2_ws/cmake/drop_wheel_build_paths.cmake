# Read through -DCMAKE_PROJECT_INCLUDE=. The ROS wheels' exported targets carry the Python include path
# of the machine that built them (/opt/python/cp...), and CMake refuses a path that does not exist.
# Once a directory is configured, drop those entries from every target it imported.
cmake_minimum_required(VERSION 3.21)

function(v2w_drop_wheel_build_paths)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(paths ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(paths)
      list(FILTER paths EXCLUDE REGEX "^/opt/python/cp")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${paths}")
    endif()
  endforeach()
endfunction()

cmake_language(DEFER CALL v2w_drop_wheel_build_paths)
