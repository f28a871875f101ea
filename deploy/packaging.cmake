# Installing and the Debian package: `cmake --install`, `cpack -G DEB`. Paths follow the prefix: with
# /usr the configuration lies in /etc, else below the prefix; the unit file is written when it is
# installed, because only then the prefix is known.

if(NOT SAN STREQUAL "")
    return() # nobody installs a build with sanitizers
endif()

set(packaging_dir ${CMAKE_CURRENT_LIST_DIR})

# The sample and the man page of the keys come from the program itself, so that they cannot drift
# from what it takes.
set(sample ${CMAKE_BINARY_DIR}/nemogate.yaml.sample)
set(keys ${CMAKE_BINARY_DIR}/config-keys.md)
set(man8 ${CMAKE_BINARY_DIR}/nemogate.8.gz)
set(man5 ${CMAKE_BINARY_DIR}/nemogate.yaml.5.gz)
set(changelog ${CMAKE_BINARY_DIR}/changelog.gz)
set(page ${CMAKE_BINARY_DIR}/nemogate.yaml.5)
configure_file(${packaging_dir}/nemogate.8.in ${CMAKE_BINARY_DIR}/nemogate.8 @ONLY)
add_custom_command(OUTPUT ${sample} ${man5}
                   COMMAND $<TARGET_FILE:nemogate> config-sample > ${sample}.new
                   COMMAND ${CMAKE_COMMAND} -E rename ${sample}.new ${sample}
                   COMMAND $<TARGET_FILE:nemogate> config-doc > ${keys}
                   COMMAND awk -v version=${PROJECT_VERSION} -f ${packaging_dir}/man_of_keys.awk
                           ${keys} > ${page}
                   COMMAND gzip -9nc ${page} > ${man5}
                   DEPENDS nemogate ${packaging_dir}/man_of_keys.awk VERBATIM)
add_custom_command(OUTPUT ${man8} ${changelog}
                   COMMAND gzip -9nc ${CMAKE_BINARY_DIR}/nemogate.8 > ${man8}
                   COMMAND gzip -9nc ${packaging_dir}/debian/changelog > ${changelog}
                   DEPENDS ${CMAKE_BINARY_DIR}/nemogate.8 ${packaging_dir}/debian/changelog VERBATIM)
add_custom_target(installed_texts ALL DEPENDS ${sample} ${man5} ${man8} ${changelog})

install(TARGETS nemogate RUNTIME DESTINATION bin)
install(FILES ${man8} DESTINATION share/man/man8)
install(FILES ${man5} DESTINATION share/man/man5)
install(FILES ${sample} DESTINATION share/nemogate)
install(FILES ${packaging_dir}/debian/copyright ${changelog} ${CMAKE_SOURCE_DIR}/README.md
        DESTINATION share/doc/nemogate)
install(DIRECTORY ${packaging_dir}/readers/python
        DESTINATION share/doc/nemogate/examples FILES_MATCHING PATTERN "*.py")
install(DIRECTORY ${packaging_dir}/monitoring DESTINATION share/doc/nemogate/examples)
install(CODE "
    set(packaging_dir \"${packaging_dir}\")
    set(build_dir \"${CMAKE_BINARY_DIR}\")
    include(\"${packaging_dir}/install_paths.cmake\")
")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME nemogate)
set(CPACK_PACKAGE_VENDOR "nemogate")
# Nobody has this address: whoever passes packages on gives his own, cpack -D CPACK_PACKAGE_CONTACT=...
set(CPACK_PACKAGE_CONTACT "the nemogate authors <nemogate@nemogate.invalid>")
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
set(CPACK_DEBIAN_PACKAGE_DEPENDS "adduser, init-system-helpers (>= 1.54~)")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "ca-certificates")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "redis-server, mosquitto")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    ${packaging_dir}/debian/postinst ${packaging_dir}/debian/prerm ${packaging_dir}/debian/postrm)
include(CPack)
