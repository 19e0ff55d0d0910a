# SPDX-License-Identifier: MIT
#
# Mutants: bugs that are planted, one at a time, to see which test notices (docs/zoo.md).
#
#   ph_mutate(NAME DIRECTORY SOURCE)   make the source file that tests/zoo/NAME.mutant changes, below DIRECTORY, and set
#                                      SOURCE to its path in the tree
#
# As a script it does the same and prints "SOURCE COPY":
#
#   cmake -DNAME=... -DDIRECTORY=... -P cmake/mutant.cmake
#
# A mutant is one piece of text of one source file and what stands in its place; the text must occur there exactly once,
# so that a mutant that the source has outgrown is an error, and not one more that nobody catches.
cmake_minimum_required(VERSION 3.21)
set(PH_MUTANT_TREE "${CMAKE_CURRENT_LIST_DIR}/..")

# The text between two marks.
function(ph_mutant_part file text from to part)
    string(FIND "${text}" "${from}" start)
    if(start EQUAL -1)
        message(FATAL_ERROR "${file}: there is no line \"${from}\"")
    endif()
    string(LENGTH "${from}" length)
    math(EXPR start "${start} + ${length}")
    string(SUBSTRING "${text}" ${start} -1 rest)
    string(FIND "${rest}" "${to}" end)
    if(end EQUAL -1)
        message(FATAL_ERROR "${file}: nothing ends at \"${to}\"")
    endif()
    string(SUBSTRING "${rest}" 0 ${end} found)
    set(${part} "${found}" PARENT_SCOPE)
endfunction()

function(ph_mutate name directory source)
    set(file "${PH_MUTANT_TREE}/tests/zoo/${name}.mutant")
    if(NOT EXISTS "${file}")
        message(FATAL_ERROR "there is no mutant ${name} in tests/zoo")
    endif()
    file(READ "${file}" text)
    ph_mutant_part("${file}" "${text}" "\nsource: " "\n" path)
    # The text need not be whole lines: the newline before a mark is not part of it.
    ph_mutant_part("${file}" "${text}" "\n--- was\n" "\n--- is\n" was)
    ph_mutant_part("${file}" "${text}" "\n--- is\n" "--- end\n" is)
    string(REGEX REPLACE "\n$" "" is "${is}")
    file(READ "${PH_MUTANT_TREE}/${path}" code)
    string(FIND "${code}" "${was}" first)
    string(FIND "${code}" "${was}" last REVERSE)
    if(was STREQUAL "" OR first EQUAL -1)
        message(FATAL_ERROR "${file}: the text is not in ${path} any more")
    elseif(NOT first EQUAL last)
        message(FATAL_ERROR "${file}: the text is in ${path} more than once")
    endif()
    string(REPLACE "${was}" "${is}" mutated "${code}")
    if(mutated STREQUAL code)
        message(FATAL_ERROR "${file}: nothing is changed")
    endif()
    set(previous "")
    if(EXISTS "${directory}/${path}")
        file(READ "${directory}/${path}" previous)
    endif()
    if(NOT previous STREQUAL mutated)
        file(WRITE "${directory}/${path}" "${mutated}")
    endif()
    set(${source} "${path}" PARENT_SCOPE)
endfunction()

# ph_mutate_target(TARGET NAME): compile the mutant in the place of its source, if that is one of the target's.
function(ph_mutate_target target name)
    if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug" OR NOT PHEAP_BUILD_TESTS)
        message(FATAL_ERROR "PHEAP_MUTANT plants a bug: it is for builds of the tests alone (CMAKE_BUILD_TYPE=Debug)")
    endif()
    ph_mutate("${name}" "${PROJECT_BINARY_DIR}/mutant" path)
    set(copy "${PROJECT_BINARY_DIR}/mutant/${path}")
    file(RELATIVE_PATH own "${CMAKE_CURRENT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/${path}")
    get_target_property(sources ${target} SOURCES)
    list(FIND sources "${own}" at)
    if(at EQUAL -1)
        return()
    endif()
    list(REMOVE_AT sources ${at})
    list(INSERT sources ${at} "${copy}")
    set_property(TARGET ${target} PROPERTY SOURCES ${sources})
    get_source_file_property(definitions "${own}" COMPILE_DEFINITIONS)
    if(definitions)
        set_source_files_properties("${copy}" PROPERTIES COMPILE_DEFINITIONS "${definitions}")
    endif()
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${PH_MUTANT_TREE}/tests/zoo/${name}.mutant"
                                           "${PH_MUTANT_TREE}/${path}")
    install(CODE "message(FATAL_ERROR \"this build has a bug planted in it: ${name}\")")
    set_property(GLOBAL PROPERTY PH_MUTANT_PLANTED "${path}")
    message(STATUS "Planted: ${name}, in ${path}")
endfunction()

# ph_require_planted(NAME): some target has it.
function(ph_require_planted name)
    get_property(path GLOBAL PROPERTY PH_MUTANT_PLANTED)
    if(NOT path)
        message(FATAL_ERROR "mutant ${name}: what it changes is no source of any library")
    endif()
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
    ph_mutate("${NAME}" "${DIRECTORY}" source)
    message("${source} ${DIRECTORY}/${source}")
endif()
