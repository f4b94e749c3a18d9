# Turns text files (OpenCL C) into C++ headers, so that the program carries its kernels and needs no files at run time.
#
#   annulus_embed_text(<target> NAMESPACE <namespace> FILES <file>...)
#
# makes for each <folder>/<name>.cl, relative to the calling folder, <build>/generated/<folder as in the source tree>/
# <name>.cl.hpp with `inline constexpr std::string_view <name>_cl` in <namespace>. Made anew when the text changes.
#
# The same file is the script that writes one header: cmake -DINPUT=.. -DOUTPUT=.. -DNAMESPACE=.. -P embed_text.cmake

if(CMAKE_SCRIPT_MODE_FILE)
  file(READ "${INPUT}" text)
  get_filename_component(name "${INPUT}" NAME)
  string(MAKE_C_IDENTIFIER "${name}" identifier)
  if(text MATCHES "\\)embedded\"")
    message(FATAL_ERROR "${INPUT} holds the delimiter of the raw string that embeds it: )embedded\"")
  endif()
  file(WRITE "${OUTPUT}"
    "// The text of ${name}, made at build time: edit that file, not this one.\n"
    "#pragma once\n\n#include <string_view>\n\nnamespace ${NAMESPACE} {\n\n"
    "inline constexpr std::string_view ${identifier} = R\"embedded(${text})embedded\";\n\n"
    "}  // namespace ${NAMESPACE}\n")
  return()
endif()

set(ANNULUS_EMBED_TEXT_SCRIPT ${CMAKE_CURRENT_LIST_FILE})

function(annulus_embed_text target)
  cmake_parse_arguments(PARSE_ARGV 1 embed "" "NAMESPACE" "FILES")
  file(RELATIVE_PATH folder ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  foreach(file IN LISTS embed_FILES)
    set(input ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    set(output ${PROJECT_BINARY_DIR}/generated/${folder}/${file}.hpp)
    add_custom_command(OUTPUT ${output}
      COMMAND ${CMAKE_COMMAND} -DINPUT=${input} -DOUTPUT=${output} -DNAMESPACE=${embed_NAMESPACE}
              -P ${ANNULUS_EMBED_TEXT_SCRIPT}
      DEPENDS ${input} ${ANNULUS_EMBED_TEXT_SCRIPT}
      COMMENT "Embedding ${folder}/${file}"
      VERBATIM)
    target_sources(${target} PRIVATE ${output})
  endforeach()
endfunction()
