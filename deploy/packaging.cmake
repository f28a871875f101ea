# Installing and the Debian package: `cmake --install`, `cpack -G DEB`. Paths follow the prefix: with
# /usr the configuration lies in /etc, else below the prefix; the unit file is written when it is
# installed, because only then the prefix is known.

if(NOT SAN STREQUAL "")
    return() # nobody installs a build with sanitizers
endif()

set(packaging_dir ${CMAKE_CURRENT_LIST_DIR})

# The sample comes from the program itself, so that it cannot drift from what the program takes.
set(sample ${CMAKE_BINARY_DIR}/nemogate.yaml.sample)
add_custom_command(OUTPUT ${sample}
                   COMMAND $<TARGET_FILE:nemogate> config-sample > ${sample}.new
                   COMMAND ${CMAKE_COMMAND} -E rename ${sample}.new ${sample}
                   DEPENDS nemogate VERBATIM)
add_custom_target(sample ALL DEPENDS ${sample})

configure_file(${packaging_dir}/nemogate.8.in ${CMAKE_BINARY_DIR}/nemogate.8 @ONLY)

install(TARGETS nemogate RUNTIME DESTINATION bin)
install(FILES ${CMAKE_BINARY_DIR}/nemogate.8 DESTINATION share/man/man8)
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION share/doc/nemogate RENAME copyright)
if(EXISTS ${CMAKE_SOURCE_DIR}/README.md)
    install(FILES ${CMAKE_SOURCE_DIR}/README.md DESTINATION share/doc/nemogate)
endif()
install(CODE "
    set(packaging_dir \"${packaging_dir}\")
    set(build_dir \"${CMAKE_BINARY_DIR}\")
    include(\"${packaging_dir}/install_paths.cmake\")
")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME nemogate)
set(CPACK_PACKAGE_VENDOR "nemogate")
set(CPACK_PACKAGE_CONTACT "the nemogate authors <nemogate@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "gateway from NEMO's Redis Streams to MQTT brokers")
set(CPACK_PACKAGE_DESCRIPTION
"nemogate carries the events of a NEMO site (lab management software) from
Redis Streams to an MQTT broker, from where displays and dashboards read
them. An entry is acknowledged to Redis only after the broker has
acknowledged the publish; the order of each key is kept; backlog stays in
Redis. MQTT 5 and 3.1.1, TLS on both sides.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "adduser")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "ca-certificates")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "redis-server, mosquitto")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    ${packaging_dir}/debian/conffiles ${packaging_dir}/debian/postinst
    ${packaging_dir}/debian/prerm ${packaging_dir}/debian/postrm)
include(CPack)
