# cmake --install: the program, its manual page, completions and schemas as the program itself prints them,
# and the systemd unit.
include(GNUInstallDirs)
install(TARGETS gybe RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# What the program prints goes to files below build/, which are installed like any others.
set(GYBE_PRINTED ${CMAKE_BINARY_DIR}/printed)
function(gybe_printed file destination)
  install(CODE "
    file(MAKE_DIRECTORY \"${GYBE_PRINTED}\")
    execute_process(COMMAND \"$<TARGET_FILE:gybe>\" ${ARGN}
      OUTPUT_FILE \"${GYBE_PRINTED}/${file}\" COMMAND_ERROR_IS_FATAL ANY)")
  install(FILES ${GYBE_PRINTED}/${file} DESTINATION ${destination})
endfunction()
gybe_printed(gybe.1 ${CMAKE_INSTALL_MANDIR}/man1 help --man)
gybe_printed(gybe ${CMAKE_INSTALL_DATADIR}/bash-completion/completions completion bash)
gybe_printed(_gybe ${CMAKE_INSTALL_DATADIR}/zsh/site-functions completion zsh)
gybe_printed(annotation.schema.json ${CMAKE_INSTALL_DATADIR}/gybe schema)
gybe_printed(runner.schema.json ${CMAKE_INSTALL_DATADIR}/gybe schema --of runner)

# The unit names the program where this very installation puts it.
install(CODE "set(GYBE_PROGRAM \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/gybe\")
  configure_file(\"${CMAKE_SOURCE_DIR}/ci/systemd/gybe.service.in\" \"${CMAKE_BINARY_DIR}/systemd/gybe.service\" @ONLY)")
install(FILES ${CMAKE_BINARY_DIR}/systemd/gybe.service ${CMAKE_SOURCE_DIR}/ci/systemd/gybe.socket
  DESTINATION lib/systemd/system)
install(FILES ${CMAKE_SOURCE_DIR}/ci/systemd/gybe.sysusers DESTINATION lib/sysusers.d RENAME gybe.conf)
install(FILES ${CMAKE_SOURCE_DIR}/README.md ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
